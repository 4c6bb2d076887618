"""The processes that `sokuji up` supervises."""
