"""`sokuji.toml`: what it may contain, and the errors for mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from sokuji import config
from sokuji.errors import ConfigError


def test_everything_has_a_default() -> None:
    assert config.convert({}) == config.Config()


def test_a_project_is_read_and_its_data_folder_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sokuji.toml").write_text('data = "state"\n[track]\nport = 9000\n[sources.web]\nwrite_key = "wk"\ndataset = "shop"\n')
    loaded = config.load(tmp_path)
    assert loaded.data == tmp_path.resolve() / "state"
    assert loaded.track.port == 9000
    assert loaded.sources == {"web": config.Source(write_key="wk", dataset="shop")}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            {"trakc": {}},
            r"x.toml: trakc is not a setting; did you mean track\? Allowed here: data, trusted_proxies, sources, track, .*",
        ),
        ({"track": {"prot": 1}}, r"x.toml: track.prot is not a setting; did you mean track.port\? Allowed here: host, port, .*"),
        ({"track": {"port": 70000}}, r"x.toml: track.port = 70000: expected int <= 65535"),
        ({"track": {"port": "80"}}, r"x.toml: track.port = '80': expected int, got str"),
        ({"track": 1}, r"x.toml: track = 1: expected a table, \[track\]"),
        ({"data": 5}, r"x.toml: data = 5: expected a path"),
        ({"log": {"partitions": 0}}, r"x.toml: log.partitions = 0: expected int >= 1"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, r"x.toml: trusted_proxies = .*'10.0.0.0/33' does not appear to be .*; expected networks.*"),
        ({"sources": {"web": {"dataset": "d"}}}, r"x.toml: sources.web.write_key is missing"),
        ({"sources": {"web": {"write_key": "k", "color": 1}}}, r"x.toml: sources.web.color is not a setting.*"),
        ({"sources": {"web": {"write_key": "k", "dataset": "a b"}}}, r"x.toml: sources.web.dataset = 'a b': expected str matching regex.*"),
        (
            {"sources": {"a": {"write_key": "k"}, "b": {"write_key": "k"}}},
            r"x.toml: sources.b.write_key is the same as that of sources.a; .*",
        ),
        ({"sources": {"sokuji": {"write_key": "k"}}}, r"x.toml: sources.sokuji: the platform's own events have this source; .*"),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(toml: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.convert(toml, "x.toml")


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sokuji init"):
        config.load(tmp_path)


def test_broken_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "sokuji.toml").write_text("[track\n")
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 1"):
        config.load(tmp_path)


def test_every_setting_and_its_default_is_documented() -> None:
    documented = dict(re.findall(r"^\| `([\w.]+)` \| `?([^`|]+?)`? \|", Path("docs/settings.md").read_text(), re.MULTILINE))
    expected = {"sources.NAME.write_key": "required", "sources.NAME.dataset": "main", "data": ".sokuji"}
    expected["trusted_proxies"] = str(config.Config().trusted_proxies)
    for section in msgspec.structs.fields(config.Config):
        if isinstance(section.type, type) and issubclass(section.type, config.Settings):
            for setting in msgspec.structs.fields(section.type):
                default = str(setting.default).lower() if isinstance(setting.default, bool) else setting.default
                expected[f"{section.name}.{setting.name}"] = f"{default:g}" if isinstance(default, float) else str(default)
    assert documented == expected


@pytest.mark.parametrize("setting", ["lake.deduplication_hours", "lake.deduplication_ids", "analyze.deduplication_ids"])
def test_a_setting_that_moved_names_where_it_went(setting: str) -> None:
    section, _, name = setting.partition(".")
    with pytest.raises(ConfigError, match=rf"{setting} is no setting any more: log\.deduplication_rows"):
        config.convert({section: {name: 1}})
