"""A project's folder: create and diagnose it."""
