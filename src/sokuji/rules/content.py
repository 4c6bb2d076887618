"""What a decision delivers: an action with the fields of its templates filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sokuji.rules.spec import Action, Message, Webhook
from sokuji.rules.template import Template, Values, render, render_image, render_link, render_value

_URLS: Mapping[str, Callable[[Template, Values], str]] = {"link": render_link, "image": render_image}


def content(action: Action, values: Values) -> dict[str, Any]:
    """The action as JSON has it; "kind" is popup, banner, webhook or call."""
    if isinstance(action, Message):
        return {"kind": action.kind, **{name: _URLS.get(name, render)(part, values) for name, part in action.fields.items()}}
    if isinstance(action, Webhook):
        return {"kind": "webhook", "url": action.url, "body": _filled(action.body, values)}
    name = getattr(action.function, "__qualname__", repr(action.function))
    return {"kind": "call", "function": name, "arguments": _filled(action.arguments, values)}


def _filled(part: object, values: Values) -> Any:
    match part:
        case Template():
            return render_value(part, values)
        case Mapping():
            return {name: _filled(item, values) for name, item in part.items()}
        case list():
            return [_filled(item, values) for item in part]
        case _:
            return part
