"""Where results live: one folder per thing, under the key of what it is."""
