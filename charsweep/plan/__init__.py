"""The least work that still gives every cell its result, its cost and its memory."""
