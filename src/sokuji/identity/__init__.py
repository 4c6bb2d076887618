"""Resolve whose event an event is: the links between visitors and users."""
