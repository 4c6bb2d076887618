"""Texts with fields of the event and of the features: "Hello {first_name|there}".

A field is a column of the event's row: an event column, a feature, a score, or a property of the event; a dotted name goes into a
JSON or STRUCT column, `{context.page.title}`. After `|` stands what is written when the field is NULL or not there. `{{` and `}}` are
braces. What a field holds is data, never markup and never a template again: `render` leaves it text for those who set text nodes or
write JSON; `render_link` and `render_image` percent-encode it and keep a URL's scheme and host out of its reach.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote

import msgspec
from msgspec import Struct

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}|]*)(?:\|([^{}]*))?\}|[{}]")
_FIELD = re.compile(r"[A-Za-z_$][\w$ -]*(\.[\w$ -]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028-\u202e\u2066-\u2069]")  # and marks that turn the direction of text

_BEGINNING = re.compile(r"https?://[\w.:-]+[/?#]|/(?![/\\])|[?#]", re.IGNORECASE)
_HOST = re.compile(r"((https?:)?//+[^/?#]*)?/*", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"(?!https?://)[^/?#]*:", re.IGNORECASE)
_IMAGE = re.compile(r"(?:https://([\w.:-]+))?/(?![/\\])[^\s\"'<>\\]*", re.IGNORECASE)


class TemplateField(Struct, frozen=True):
    """A field's name and what stands for it when it is NULL; None: the message needs it."""

    name: str
    fallback: str | None


class Template(Struct, frozen=True):
    """Text and fields in their order."""

    parts: tuple[str | TemplateField, ...]

    @property
    def fields(self) -> tuple[TemplateField, ...]:
        """The fields of the text."""
        return tuple(part for part in self.parts if isinstance(part, TemplateField))


Values = Mapping[str, object]
"""What the fields of a template hold, None for NULL."""


def parse(text: str) -> Template:
    """The template that `text` is.

    Raises:
        ValueError: a brace without its other half, or a field that has no name.
    """
    parts: list[str | TemplateField] = []
    end = 0
    for token in _TOKEN.finditer(text):
        parts.append(text[end : token.start()])
        end = token.end()
        if token[0] in ("{{", "}}"):
            parts.append(token[0][0])
        elif token[1] is None:
            raise ValueError(
                f"{text!r}: the {token[0]!r} at character {token.start() + 1} has no other half; write {token[0] * 2!r} for a brace"
            )
        elif not _FIELD.fullmatch(token[1]):
            raise ValueError(f"{text!r}: {token[0]!r} does not name a field; write {{name}} or {{name|what to say without it}}")
        else:
            parts.append(TemplateField(token[1], token[2]))
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part != ""))


def parse_url(text: str) -> Template:
    """The template of a link or an image: a URL whose beginning is fixed, or nothing but one field.

    Raises:
        ValueError: it is something else, such as `javascript:`, or a field stands where it could change the host.
    """
    template = parse(text)
    if _is_field(template):
        return template
    head = template.parts[0] if template.parts and isinstance(template.parts[0], str) else ""
    if _BEGINNING.match(f"{head}/" if "://" in head and len(template.parts) == 1 else head):
        return template
    raise ValueError(
        f"{text!r} is not a link with a fixed beginning; write 'https://host/...' or '/path/...' fields behind the host, or one field alone"
    )


def render(template: Template, values: Values) -> str:
    """The text with its fields filled in. It is text: escape it where it becomes part of anything else."""
    return "".join(part if isinstance(part, str) else _CONTROL.sub("", _text(part, values)) for part in template.parts)


def render_link(template: Template, values: Values) -> str:
    """The link with its fields percent-encoded, `/` too, so that a value is one part of the path or of the query.

    A field alone holds a whole URL. An event may say anything, so only its path and query are taken: the link stays on the site.
    """
    if not _is_field(template):
        return _encoded(template, values)
    text = re.sub(r"\s", "", render(template, values)).replace("\\", "/")
    if _OTHER_SCHEME.match(text):
        return "/"
    return _on_site(quote(_HOST.sub("/", text, count=1), safe="/?#&=%+,;:@!$()*~"))


def render_image(template: Template, values: Values, hosts: Collection[str]) -> str:
    """As `render_link`, but a field alone may name an image of the site, by its path, or of one of `hosts`, by https.

    What is anything else gives no image: an event may say anything, and an image of a stranger's host also tells them who sees it.
    """
    if not _is_field(template):
        return _encoded(template, values)
    text = render(template, values)
    found = _IMAGE.fullmatch(text)
    return text if found and (found[1] is None or found[1].lower() in hosts) else ""


def render_value(template: Template, values: Values) -> object:
    """A value for JSON: the field itself, with its type, where the template is nothing but one field; else the text."""
    field = template.parts[0] if len(template.parts) == 1 else None
    if isinstance(field, TemplateField):
        value = values.get(field.name)
        return field.fallback if value is None else value
    return render(template, values)


def missing(fields: tuple[TemplateField, ...], values: Values) -> str | None:
    """The name of a field that has neither a value nor a fallback."""
    return next((field.name for field in fields if field.fallback is None and values.get(field.name) is None), None)


def _is_field(template: Template) -> bool:
    return len(template.parts) == 1 and isinstance(template.parts[0], TemplateField)


def _encoded(template: Template, values: Values) -> str:
    return _on_site("".join(part if isinstance(part, str) else quote(_text(part, values), safe="") for part in template.parts))


def _on_site(link: str) -> str:
    """A path that begins with `//`, as an empty field may make it, would name a host."""
    return re.sub(r"^//+", "/", link)


def _text(field: TemplateField, values: Values) -> str:
    value = values.get(field.name)
    if value is None:
        return field.fallback or ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # 30.0, as every number of an event is FLOAT64, reads 30
    return msgspec.json.encode(value).decode()
