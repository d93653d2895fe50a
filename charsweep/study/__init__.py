"""Which cells come next, as trials of an Optuna study; the only room that knows Optuna."""

from charsweep.study.adaptive import check
from charsweep.study.grid import Study, open_study
from charsweep.study.trials import lock_sweep, sqlite_errors

__all__ = ["Study", "check", "lock_sweep", "open_study", "sqlite_errors"]
