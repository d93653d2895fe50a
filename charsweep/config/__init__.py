"""Configuration: Hydra composes it, pydantic checks it, and a sweep's cells come of it.

The words of a command line go in, a checked and frozen `Sweep` comes out. The only room that knows
Hydra.
"""

from charsweep.config.axes import Axes
from charsweep.config.compose import as_yaml, hydra_words, load_settings
from charsweep.config.settings import Settings
from charsweep.config.settings.search import Range
from charsweep.config.sweep import Part, Sweep, load_sweep

__all__ = [
    "Axes",
    "Part",
    "Range",
    "Settings",
    "Sweep",
    "as_yaml",
    "hydra_words",
    "load_settings",
    "load_sweep",
]
