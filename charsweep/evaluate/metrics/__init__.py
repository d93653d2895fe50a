"""Metrics: features of an exam in, a number out. Reached through conf/metric/."""
