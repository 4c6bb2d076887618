"""The lake: tables of events and of results, as files that other tools can read."""
