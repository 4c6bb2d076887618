"""Evaluate GoogleSQL's scalar expressions over one Arrow batch."""
