"""The worker's state of one dataset: open, checkpoint and rebuild it, and carry it over when the declarations change."""
