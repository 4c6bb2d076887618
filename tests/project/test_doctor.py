"""`sokuji doctor`."""

from __future__ import annotations

import socket
from pathlib import Path

from sokuji.config import ActSettings, AnalyzeSettings, Config, LakeSettings, TrackSettings, WebhookSettings
from sokuji.project import doctor


def _config(tmp_path: Path, port: int) -> Config:
    return Config(
        data=tmp_path / "not" / "there",
        track=TrackSettings(port=port, health_port=0),
        act=ActSettings(port=0, health_port=0),
        analyze=AnalyzeSettings(health_port=0),
        webhooks=WebhookSettings(health_port=0),
        lake=LakeSettings(health_port=0),
    )


def test_a_machine_that_runs_these_tests_is_well(tmp_path: Path) -> None:
    assert [finding for finding in doctor.examine(_config(tmp_path, 0)) if finding.fix] == []


def test_a_port_that_is_taken_is_named_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        troubles = [finding for finding in doctor.examine(_config(tmp_path, port)) if finding.fix]
        assert [finding for finding in doctor.examine(_config(tmp_path, port), is_running=True) if finding.fix] == []
    assert [trouble.subject for trouble in troubles] == ["track.port"]
    assert str(port) in troubles[0].found
    assert "set track.port in sokuji.toml" in troubles[0].fix
