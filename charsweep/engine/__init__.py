"""Engines: they execute a plan and yield its finished cells, in this process or in several."""
