"""The log: every event in order. Everything else can be rebuilt from it."""
