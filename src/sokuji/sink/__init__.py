"""The `sink` role: move the log into the lake's tables, and read the rows that are not there yet."""
