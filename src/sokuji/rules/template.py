"""Text templates with fields of the event and of features: "Hello {first_name|there}".

A field is a column of the event's row: an event column, a feature, a score, or a property of the event. A dotted name reads a member of a
JSON or STRUCT column: `{context.page.title}`. The text after `|` is used if the field is NULL or missing. `{{` and `}}` are braces. The
value of a field is data, never markup and never a template itself. `render` returns plain text, for code that sets text nodes or writes
JSON. `render_link` and `render_image` percent-encode it, and do not let it change a URL's scheme or host.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote

import msgspec
from msgspec import Struct

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}|]*)(?:\|([^{}]*))?\}|[{}]")
_FIELD = re.compile(r"[A-Za-z_$][\w$ -]*(\.[\w$ -]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028-\u202e\u2066-\u2069]")  # including marks that change the direction of text

_BEGINNING = re.compile(r"https?://[\w.:-]+[/?#]|/(?![/\\])|[?#]", re.IGNORECASE)
_HOST = re.compile(r"((https?:)?//+[^/?#]*)?/*", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"(?!https?://)[^/?#]*:", re.IGNORECASE)
_IMAGE = re.compile(r"(?:https://([\w.:-]+))?/(?![/\\])[^\s\"'<>\\]*", re.IGNORECASE)


class TemplateField(Struct, frozen=True):
    """A field's name and the text to use if it is NULL; None: the message needs the field."""

    name: str
    fallback: str | None


class Template(Struct, frozen=True):
    """Texts and fields in their order."""

    parts: tuple[str | TemplateField, ...]

    @property
    def fields(self) -> tuple[TemplateField, ...]:
        """The fields of the template."""
        return tuple(part for part in self.parts if isinstance(part, TemplateField))


Values = Mapping[str, object]
"""The values of a template's fields; None is NULL."""


def parse(text: str) -> Template:
    """Parse a template.

    Raises:
        ValueError: a brace is unbalanced, or a field has no valid name.
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
    """Parse the template of a link or an image: a URL with a fixed beginning, or a single field.

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
    """The text with its fields filled in. It is plain text: escape it before it becomes part of anything else."""
    return "".join(part if isinstance(part, str) else _CONTROL.sub("", _text(part, values)) for part in template.parts)


def render_link(template: Template, values: Values) -> str:
    """The link with its fields percent-encoded, including `/`, so that a value is one part of the path or of the query.

    A single field holds a whole URL. As an event may have any value, only its path and query are used: the link stays on the site.
    """
    if not _is_field(template):
        return _encoded(template, values)
    text = re.sub(r"\s", "", render(template, values)).replace("\\", "/")
    if _OTHER_SCHEME.match(text):
        return "/"
    return _on_site(quote(_HOST.sub("/", text, count=1), safe="/?#&=%+,;:@!$()*~"))


def render_image(template: Template, values: Values, hosts: Collection[str]) -> str:
    """Render like `render_link`, but a single field may name an image of the site, by path, or of one of `hosts`, by https.

    Any other value gives no image. An event may have any value, and an image on a stranger's host would tell the stranger who sees it.
    """
    if not _is_field(template):
        return _encoded(template, values)
    text = render(template, values)
    match = _IMAGE.fullmatch(text)
    return text if match and (match[1] is None or match[1].lower() in hosts) else ""


def render_value(template: Template, values: Values) -> object:
    """A value for JSON: the field's value with its type if the template is a single field, else the text."""
    field = template.parts[0] if len(template.parts) == 1 else None
    if isinstance(field, TemplateField):
        value = values.get(field.name)
        return field.fallback if value is None else value
    return render(template, values)


def missing(fields: tuple[TemplateField, ...], values: Values) -> str | None:
    """The name of a field that has neither a value nor a fallback; None if there is none."""
    return next((field.name for field in fields if field.fallback is None and values.get(field.name) is None), None)


def _is_field(template: Template) -> bool:
    return len(template.parts) == 1 and isinstance(template.parts[0], TemplateField)


def _encoded(template: Template, values: Values) -> str:
    return _on_site("".join(part if isinstance(part, str) else quote(_text(part, values), safe="") for part in template.parts))


def _on_site(link: str) -> str:
    """Remove extra slashes at the beginning: a path that begins with `//`, for example after an empty field, would name a host."""
    return re.sub(r"^//+", "/", link)


def _text(field: TemplateField, values: Values) -> str:
    value = values.get(field.name)
    if value is None:
        return field.fallback or ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # 30.0 reads 30: every number of an event is FLOAT64
    return msgspec.json.encode(value).decode()
