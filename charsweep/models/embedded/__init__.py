"""The tiny models that ship with charsweep, the cartoon world they know, and how they were made."""

from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights"
UNICORN_GIRL = FOLDER / "unicorn_girl"
UNICORN_GIRL_EXAM = FOLDER / "unicorn_girl_exam"
