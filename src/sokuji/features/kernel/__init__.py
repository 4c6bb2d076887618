"""Features of events computed in compiled code: programs, rows, loops over a micro-batch, and how a row is read."""
