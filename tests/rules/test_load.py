"""Loading a project's `actions.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sokuji.act.deliver.perform import performer
from sokuji.errors import RuleError
from sokuji.rules.load import load
from sokuji.rules.spec import Actions


def written(folder: Path, text: str) -> Path:
    path = folder / "actions.py"
    path.write_text(text)
    return path


def loaded(folder: Path, text: str) -> Actions:
    return load(written(folder, "from sokuji.rules import *\n" + text))


def test_rules_are_declared_by_calling_rule_anywhere_in_the_file(tmp_path: Path) -> None:
    actions = loaded(tmp_path, 'for n in range(3):\n    rule(f"r{n}", do=popup(title="x"))\nlast = rule("last", do=popup(title="x"))\n')
    assert [rule.name for rule in actions.rules] == ["r0", "r1", "r2", "last"]


def test_the_project_gives_rules_their_zone_quiet_hours_and_goal(tmp_path: Path) -> None:
    actions = loaded(
        tmp_path,
        """
project(zone="Asia/Tokyo", gap="30s", gap_views=2, holdout=0.02, quiet=quiet_hours("22:00-08:00"), goal=goal("buy", within="1h"))
rule("a", do=popup(title="x"), during=schedule(since="2027-01-01"))
rule("b", do=popup(title="x"), quiet=False, goal=goal("signup", within="2h"))
rule("c", do=popup(title="x"), quiet=quiet_hours("01:00-02:00", zone="visitor"))
""",
    )
    a, b, c = actions.rules
    assert (actions.project.gap_us, actions.project.gap_views, actions.project.holdout) == (30_000_000, 2, 0.02)
    assert a.quiet is not None
    assert (a.quiet.zone, a.quiet.visitor) == ("Asia/Tokyo", False)
    assert a.schedule is not None
    assert (a.schedule.zone, a.schedule.since_us) == ("Asia/Tokyo", 1_798_729_200_000_000)
    assert b.quiet is None
    assert (a.goal and a.goal.event, b.goal and b.goal.event) == ("buy", "signup")
    assert c.quiet is not None
    assert (c.quiet.zone, c.quiet.visitor) == ("Asia/Tokyo", True)


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    actions = load(written(tmp_path, text.split("```python\n")[1].split("```")[0]))
    assert [rule.name for rule in actions.rules] == ["left_cart", "big_spender", "crm", "greet"]


def test_two_loads_do_not_mix(tmp_path: Path) -> None:
    path = written(tmp_path, 'from sokuji.rules import *\nrule("a", do=popup(title="x"))')
    assert load(path) == load(path)
    assert len(load(path).rules) == 1


def test_a_file_may_be_empty(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")).rules == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('rule("a", do=popup(title="x"))\nrule("a", do=popup(title="x"))', "actions.py:3: rule 'a' is declared twice"),
        ('rule("a", do=popup(title="x"))\nproject()', "actions.py:3: project(...) comes once, above the first rule"),
        ("project()\nproject()", "actions.py:3: project(...) comes once"),
        ('def make(name):\n    return rule(name, do=popup(title=""))\n\nmake("a")', "actions.py:3: popup title=''"),
        ("rule('a'", "actions.py:2: "),
        ("x = 1 / 0", "actions.py:2: ZeroDivisionError: division by zero"),
        ("import no_such_module", "actions.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys\nsys.exit(3)", "actions.py:3: SystemExit: 3"),
        ('rule("a", do=popup(title="x"), wen="x > 1")', "actions.py:2: TypeError: "),
        ("\0", "actions.py"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RuleError) as caught:
        loaded(tmp_path, text)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"actions\.py cannot be read: No such file"):
        load(tmp_path / "actions.py")


def test_a_failed_load_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuleError):
        loaded(tmp_path, 'rule("a", do=popup(title="x"))\n1 / 0')
    assert len(loaded(tmp_path, 'rule("a", do=popup(title="x"))').rules) == 1


def test_the_projects_functions_are_called_with_the_decision_and_their_arguments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    perform = performer(
        written(
            tmp_path,
            f"""
from pathlib import Path
from sokuji.rules import *
def save(decision, name, amount):
    Path({str(out)!r}).write_text(f"{{decision['id']}} {{name}} {{amount + 1}}")
rule("a", do=[arm("x", call(save, name="{{name}}", amount="{{amount}}"))])
""",
        )
    )
    decision = {"id": "d1", "rule": "a", "arm": "x", "action": {"kind": "call", "arguments": {"name": "Ann", "amount": 2}}}
    perform(decision)
    assert out.read_text() == "d1 Ann 3"
    with pytest.raises(RuleError, match="has no function for arm 'y' of rule 'a'"):
        perform(decision | {"arm": "y"})
