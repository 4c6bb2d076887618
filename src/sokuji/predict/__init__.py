"""The read side: the current features of a profile, and whether a decision still holds."""
