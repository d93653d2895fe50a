"""Finished cells to MLflow runs, and MLflow back to a sweep; the room that knows MLflow.

The work is done by a process of its own: `python -m charsweep.track SWEEP_FOLDER`.
"""

from charsweep.track.process import Tracker, is_delivered, read_runs, rebuild, start
from charsweep.track.story import log_story

__all__ = ["Tracker", "is_delivered", "log_story", "read_runs", "rebuild", "start"]
