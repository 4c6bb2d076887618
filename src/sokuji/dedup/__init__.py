"""Which messages are repeats."""
