"""The tiny models that ship with charsweep, the cartoon world they know, and how they were made."""

from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights"
UNICORN_GIRL = FOLDER / "unicorn_girl"
UNICORN_GIRL_EXAM = FOLDER / "unicorn_girl_exam"
THUNDER_BEAR = FOLDER / "thunder_bear"
THUNDER_BEAR_EXAM = FOLDER / "thunder_bear_exam"
TOGETHER_EXAM = FOLDER / "together_exam"  # true pictures of prompts that name both
