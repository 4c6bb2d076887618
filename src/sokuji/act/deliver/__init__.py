"""The `deliver` role: sends decisions to webhooks and to a project's own functions."""
