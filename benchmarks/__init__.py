"""Benchmarks of charsweep."""
