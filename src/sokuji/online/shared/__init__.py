"""The online store in shared memory: one process writes rows, any process reads them."""
