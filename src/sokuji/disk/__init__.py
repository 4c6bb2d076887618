"""Durable files, locks between processes, and the version and checksum in stored files."""
