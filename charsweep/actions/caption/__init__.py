"""`action=caption`: proposed captions, `NAME.txt` beside each training image that has none."""
