"""Schedules: step and horizon in, factor on the rate out. Reached through conf/schedule/."""
