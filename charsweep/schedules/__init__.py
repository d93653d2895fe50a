"""Schedules: step and horizon in, factor on the learning rate out. Reached through conf/schedule/."""
