"""GoogleSQL text to a resolved statement: ZetaSQL's analyzer and what it is told of tables, functions and parameters."""
