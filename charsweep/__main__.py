"""The command line, `python -m charsweep [overrides]`: Hydra overrides choose and set one action.

Exit codes: 0 done, 2 something a person can mend (one message, no traceback unless
CHARSWEEP_DEBUG=1; cells that failed too, after the report), 75 in time (runtime.stop_after) with
more to do, which the same command goes on with, 130 or 143 stopped in order by Ctrl-C or SIGTERM,
141 because nobody reads on, as `| head`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

# Before any library is imported: no telemetry, no needless network.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "true")

from charsweep.core.errors import CharsweepError, ConfigError, shown
from charsweep.core.system.console import command
from charsweep.core.system.distributed import is_launched, is_leader
from charsweep.core.system.redact import redacted
from charsweep.core.system.signals import Stopped, listening, time_limit

if TYPE_CHECKING:
    from charsweep.config import Sweep

ALONE = (
    "choose",
    "ui",
    "caption",
    "check",
    "gc",
    "show",
    "why",
)  # actions that need no cell of any sweep
TO_LEAVE = 5.0  # seconds of a time limit, for the process to end
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # where nobody could say it better
HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i",
               "--shell-completion", "-sc")  # fmt: skip
TAKES_WORD = ("--cfg", "-c", "--info", "-i", "--package", "-p")  # the next one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        (ask_hydra if any(map(_asks_hydra, words)) else act)(words)
        sys.stdout.flush()
    except CharsweepError as error:
        debug = os.environ.get("CHARSWEEP_DEBUG") == "1"
        shown = traceback.format_exc() if debug else f"{type(error).__name__}: {error}\n"
        sys.stderr.write(redacted(shown))
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        if error.errno not in NO_ROOM or os.environ.get("CHARSWEEP_DEBUG") == "1":
            raise
        where = error.filename or "a file"
        sys.stderr.write(
            f"cannot write {where}: {error.strerror}; make room, or set root= to a folder that can "
            "be written, and run the same command again\n"
        )
        return 2
    except Stopped as stopped:
        again = "launch it again" if is_launched() else "run it again"
        if is_leader():
            typed = redacted(command(words))
            sys.stderr.write(f"stopped by {stopped.name}; to go on, {again}:\n  {typed}\n")
        return stopped.code
    except KeyboardInterrupt:
        return 130
    return 0


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that leads nowhere; what is left for it is let go."""
    watched = select.poll()
    watched.register(sys.stdout, 0)
    ended = any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    if ended:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ended


def act(words: Sequence[str]) -> None:
    """Compose, check, and do what `action` says."""
    typed = {word.replace("'", "") for word in words}
    action = next((name for name in ALONE if f"action={name}" in typed), None)
    with listening(aloud=is_leader()):
        return act_alone(words) if action else work(words)


def work(words: Sequence[str]) -> None:
    """Whatever is done with the cells of a sweep."""
    from charsweep.config import load_sweep

    sweep = load_sweep(words)
    from charsweep.actions import run

    if sweep.settings.action in ALONE:  # as a file of the sweep says
        return act_alone(words)
    if not is_leader():  # one of several processes that `accelerate launch` started
        return run.follow(sweep) if sweep.settings.action == "run" else None
    whole = sweep.settings.runtime.stop_after
    with time_limit(whole and whole - min(TO_LEAVE, whole / 10)):
        do(sweep, words)
    return None


def do(sweep: Sweep, words: Sequence[str]) -> None:
    """The action, with the libraries that it needs."""
    from charsweep.actions import plan, report, run

    match sweep.settings.action:
        case "run":
            run.run(run.asked_of_workers(sweep, words))
        case "plan":
            plan.show_plan(sweep)
        case "report":
            report.rebuild_report(sweep)
        case "story":
            from charsweep.actions.story.tell import tell

            tell(sweep)
        case "validate":
            from charsweep.actions.validate import validate

            validate(sweep)
        case "export":
            from charsweep.actions.export.write import export

            export(sweep)


def act_alone(words: Sequence[str]) -> None:
    """Do what asks for no cell of any sweep, so that none is composed."""
    from charsweep.config import load_settings

    settings = load_settings(words)
    if settings.action == "caption":
        from charsweep.actions.caption.propose import propose

        propose(words)
        return
    if settings.action == "ui":
        from charsweep.actions.ui import show

        show(settings)
        return
    if settings.action == "choose":
        from charsweep.actions.choose.serve import choose

        choose(settings)
        return
    from charsweep.actions.store_tools import keep

    keep(settings)


def _asks_hydra(word: str) -> bool:
    return word in HYDRA_FLAGS or word.startswith(("--cfg=", "--info="))


def _leads_elsewhere(word: str) -> bool:
    """Whether a word gives Hydra other files than charsweep's own."""
    return word.startswith(("--config-", "-cd", "-cp", "-cn")) or "hydra." in word


def ask_hydra(words: Sequence[str]) -> None:
    """Let Hydra answer --help, --cfg, --info and shell completion, wherever they stand.

    Not on a person's own conf folder: to answer, Hydra sets up logging as the files say, with
    whatever factories they name. `--cfg job` is answered here.
    """
    from charsweep.config import as_yaml, hydra_words

    flags, others = _flags_first(words)
    if flags in (["--cfg", "job"], ["-c", "job"], ["--cfg=job"]):
        sys.stdout.write(redacted(as_yaml(others)))
        return
    if any(_leads_elsewhere(word) for word in others):
        raise ConfigError(
            f"{flags[0]}: with a conf folder of your own there is only --cfg job, which shows "
            "the whole configuration, as in --cfg job --config-dir FOLDER"
        )
    import hydra

    from charsweep.core.plugins import CONF

    sys.argv = ["charsweep", *flags, *hydra_words(others)]
    said, told = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(told):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_nothing)()
    except SystemExit as left:
        if left.code:
            raise ConfigError(
                f"{shown(' '.join(words))}: {_first_line(said.getvalue())}; see python -m "
                "charsweep --help"
            ) from left
    finally:
        sys.stdout.write(redacted(told.getvalue()))


def _flags_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags that ask Hydra, each with the bare word that it takes, and all other words."""
    flags: list[str] = []
    others: list[str] = []
    for word in words:
        follows = bool(flags) and flags[-1] in TAKES_WORD and not word.startswith("-")
        is_flag = _asks_hydra(word) or word in ("-p", "--package", "--resolve")
        (flags if is_flag or (follows and "=" not in word) else others).append(word)
    return flags, others


def _first_line(text: str) -> str:
    """What argparse, or Hydra, says first, without how it is used."""
    lines = [line for line in text.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(("usage:", " "))]
    return shown((own or lines or ["no such option"])[0].removeprefix("charsweep: error: "), 300)


def _nothing(_: object) -> None:
    raise AssertionError("Hydra was asked for information only")


if __name__ == "__main__":
    code = main()
    if is_launched():  # torch's threads may abort a process that ends in order
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
