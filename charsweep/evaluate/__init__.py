"""Draws the exam, encodes images, and scores them."""
