"""Which cells come next; the only room that knows Optuna."""
