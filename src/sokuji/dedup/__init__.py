"""Deduplicate messages: one rule, two indexes."""
