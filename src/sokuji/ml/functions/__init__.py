"""The ML.* table functions, one family per file. `ml/sql.py` lists them for the engine."""
