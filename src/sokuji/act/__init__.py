"""Deliver decisions: streams, pulls, webhooks, functions, and the browser's tag."""
