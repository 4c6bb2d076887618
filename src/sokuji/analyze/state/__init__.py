"""The worker's state of one dataset: opened, checkpointed, rebuilt, and carried over when the declarations change."""
