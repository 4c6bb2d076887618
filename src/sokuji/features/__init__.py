"""Features of visitors and users: declared once, computed by one kernel on the stream, in training sets and at reads."""

from sokuji.features.language import events, property_types, sessions, view

__all__ = ["events", "property_types", "sessions", "view"]
