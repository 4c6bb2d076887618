"""The processes that `sokuji up` supervises, one file a role.

A role imports what it needs when it runs: a collector does without the lake, SQL and their packages.
"""
