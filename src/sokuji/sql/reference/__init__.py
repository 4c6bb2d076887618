"""Queries on GoogleSQL's reference implementation."""
