"""Evaluation: drawing the exam's images, encoding and scoring them."""
