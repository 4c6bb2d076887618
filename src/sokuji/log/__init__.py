"""The log: every event in order, from which everything else can be made again."""
