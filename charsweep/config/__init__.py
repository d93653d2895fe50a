"""From the words of the command line to a checked sweep and its cells; the one room that knows
Hydra."""
