"""The online store: the rows of profiles, read and written by key."""
