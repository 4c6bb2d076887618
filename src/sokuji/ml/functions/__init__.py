"""The ML.* table functions, a family a file; `ml/sql.py` gives the engine their table."""
