"""The `sink` role: from the log to the lake's tables, and the rows that are not there yet."""
