"""Files that are there after a power cut, locks between processes, and how a stored file says its version and checksum."""
