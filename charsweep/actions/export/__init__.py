"""`action=export`: one cell's weights as other programs read them, with a model card."""
