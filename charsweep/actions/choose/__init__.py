"""`action=choose`: one local page on a sweep, to look, compare and vote."""
