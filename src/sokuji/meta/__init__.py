"""The catalog: all datasets, tables, views, functions and models."""
