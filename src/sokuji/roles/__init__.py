"""The processes that `sokuji up` supervises, one file per role.

A role imports what it needs only when it runs: a collector needs neither the lake nor SQL, nor their packages.
"""
