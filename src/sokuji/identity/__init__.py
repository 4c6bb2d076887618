"""Whose event is it: the links between visitors and users."""
