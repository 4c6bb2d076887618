"""Decisions on their way to the visitor: streams, pulls, webhooks, functions, and the browser's tag."""
