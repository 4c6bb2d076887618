"""Turn GoogleSQL text into a resolved statement, by ZetaSQL's analyzer, given the tables, functions and parameters it may name."""
