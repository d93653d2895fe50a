"""The training loop, what trains in it, and on which batches."""
