"""Pretrained pipelines: what kinds there are, where their weights lie, how they are loaded."""
