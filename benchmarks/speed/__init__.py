"""How fast charsweep trains and draws on this machine, with a plain loop beside it.

Both train the same method on the same base and drawings, in one process, turn and turn about. It
needs what the trainer needs, and neither Hydra nor MLflow nor Optuna, so that it runs on a bare
machine.
"""
