"""One file a published number: `sokuji bench NAME --json`."""
