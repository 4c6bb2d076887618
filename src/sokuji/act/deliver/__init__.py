"""The `deliver` role: decisions sent to webhooks and to a project's own functions."""
