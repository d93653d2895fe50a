"""How the embedded models were made: the drawn world, its captions, how each model learnt it."""
