"""GoogleSQL."""
