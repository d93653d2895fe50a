"""How the embedded models were made: the cartoon world, its captions, and each model's training."""
