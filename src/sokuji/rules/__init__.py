"""Rules: when to do what for whom. A project's `actions.py` imports its vocabulary from here."""

from sokuji.rules.language import arm, banner, call, goal, popup, project, quiet_hours, rule, schedule, webhook

__all__ = ["arm", "banner", "call", "goal", "popup", "project", "quiet_hours", "rule", "schedule", "webhook"]
