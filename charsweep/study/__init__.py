"""Which cells come next, as trials of an Optuna study; the only room that knows Optuna."""

from charsweep.config import Sweep
from charsweep.study.adaptive import Search, check
from charsweep.study.grid import Grid
from charsweep.study.race import Race
from charsweep.study.trials import lock_sweep, sqlite_errors

Study = Grid | Search  # which cells are to be run next, and what became of them

__all__ = ["Study", "check", "lock_sweep", "open_study", "sqlite_errors"]


def open_study(sweep: Sweep) -> Study:
    """The sweep's study, made or gone on with; ConfigError where its meaning has changed."""
    if sweep.settings.search.is_race:
        return Race(sweep)
    return Grid(sweep) if sweep.settings.search.is_grid else Search(sweep)
