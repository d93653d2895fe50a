"""Configuration: Hydra composes it, pydantic checks it, and a sweep's cells come of it.

The only room that knows Hydra.
"""
