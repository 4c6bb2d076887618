"""Rules: when to do what for whom. The words of a project's `actions.py` are imported from here."""

from sokuji.rules.language import arm, banner, call, goal, popup, project, quiet_hours, rule, schedule, webhook

__all__ = ["arm", "banner", "call", "goal", "popup", "project", "quiet_hours", "rule", "schedule", "webhook"]
