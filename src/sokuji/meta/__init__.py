"""The catalog: which datasets, tables, views, functions and models there are."""
