"""The content of a decision: an action with the fields of its templates filled in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from sokuji.rules.spec import Action, Message, Webhook
from sokuji.rules.template import Template, Values, render, render_image, render_link, render_value


def content(action: Action, values: Values, image_hosts: Collection[str]) -> dict[str, Any]:
    """The action as JSON; "kind" is popup, banner, webhook or call. A field may name images of `image_hosts`."""
    if isinstance(action, Message):
        fill: Mapping[str, Callable[[Template, Values], str]] = {"link": render_link, "image": partial(render_image, hosts=image_hosts)}
        return {"kind": action.kind, **{name: fill.get(name, render)(part, values) for name, part in action.fields.items()}}
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
