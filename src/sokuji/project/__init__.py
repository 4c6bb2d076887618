"""A project's folder: made, checked and diagnosed."""
