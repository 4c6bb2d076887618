"""The worker: the log's events into features, rules and decisions, at once."""
