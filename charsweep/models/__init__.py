"""Pretrained pipelines: their families, where their weights lie, and how they are loaded."""
