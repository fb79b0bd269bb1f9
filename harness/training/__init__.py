"""Training: batches, one step, the loop around it, and its state on disk."""
