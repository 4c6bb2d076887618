"""Statements that are no queries: definitions, changes, scripts, and the views of INFORMATION_SCHEMA."""
