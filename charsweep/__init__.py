"""charsweep: how to teach a text-to-image model one character, found out by measurement."""

import logging

__version__ = "0.1.0"

# peft imports it where it is installed, and it says what it lacks for things that are not used here
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
