"""charsweep: how to teach a text-to-image model one character, found out by measurement."""

__version__ = "0.1.0"
