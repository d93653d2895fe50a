"""Engines: they execute a plan and yield its finished cells. Today: in this process."""
