"""Plots and contact sheets; the only folder that knows matplotlib."""
