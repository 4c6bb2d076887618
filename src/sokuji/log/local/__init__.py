"""The log as segment files in a folder."""
