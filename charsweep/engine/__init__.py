"""Engines: a plan in, finished cells out. Today: this process."""
