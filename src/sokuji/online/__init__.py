"""The profiles' rows, read and written by key."""
