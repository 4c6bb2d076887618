"""Run a project's own functions as actions; called by the delivery role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sokuji.errors import RuleError
from sokuji.rules.load import load
from sokuji.rules.spec import PythonCall


def performer(path: Path) -> Callable[[Mapping[str, Any]], object]:
    """Load `actions.py` and return a function that carries out a decision of kind "call".

    The decision is a JSON object with "rule", "arm" and "action".
    """
    functions = {
        (rule.name, arm.name): arm.action.function for rule in load(path).rules for arm in rule.arms if isinstance(arm.action, PythonCall)
    }

    def perform(decision: Mapping[str, Any]) -> object:
        function = functions.get((decision["rule"], decision["arm"]))
        if function is None:
            raise RuleError(
                f"{path} has no function for arm {decision['arm']!r} of rule {decision['rule']!r}; it had one when this was decided"
            )
        return function(decision, **decision["action"]["arguments"])

    return perform
