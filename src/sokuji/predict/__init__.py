"""The read side: features of a profile now, and whether a decision still holds."""
