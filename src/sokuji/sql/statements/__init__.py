"""Statements that are not queries: definitions, changes, scripts, and the views of INFORMATION_SCHEMA."""
