"""The character: its training images, captions, masks, and how images are framed."""
