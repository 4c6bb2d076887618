"""The worker: compute features, rules and decisions from the log's events immediately."""
