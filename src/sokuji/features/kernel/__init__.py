"""Features computed in compiled code: programs, rows, loops over a micro-batch, and reading a row."""
