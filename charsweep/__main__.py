"""`python -m charsweep [overrides]`: Hydra's words in, one action out.

Exit codes: 0 done, 2 something a person can mend (one message, no traceback unless
CHARSWEEP_DEBUG=1), 130 or 143 stopped in order by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
from collections.abc import Sequence

# Before any library is imported: no telemetry, no needless network.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "true")

from charsweep.errors import CharsweepError, ConfigError
from charsweep.stopping import Stopped, listening
from charsweep.team import is_leader

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # where nobody could say it better
HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i",
               "--shell-completion", "-sc")  # fmt: skip


# peft imports it, and it says what it lacks for things that are not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0].split("=")[0] in HYDRA_FLAGS:
        return ask_hydra(words)
    try:
        act(words)
    except CharsweepError as error:
        if os.environ.get("CHARSWEEP_DEBUG") == "1":
            raise
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM or os.environ.get("CHARSWEEP_DEBUG") == "1":
            raise
        where = error.filename or "a file"
        sys.stderr.write(
            f"cannot write {where}: {error.strerror}; make room, or set root= to a folder that can "
            "be written, and run the same command again\n"
        )
        return 2
    except Stopped as stopped:
        command = shlex.join(["python", "-m", "charsweep", *words])
        sys.stderr.write(f"stopped by {stopped.name}; to go on, run it again:\n  {command}\n")
        return stopped.code
    except KeyboardInterrupt:
        return 130
    return 0


def act(words: Sequence[str]) -> None:
    """Compose, check, and do what `action` says."""
    unknown = [word for word in words if word.startswith("-") and not _is_known(word)]
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such option; see python -m charsweep --help")
    if any(word.replace("'", "") == "action=ui" for word in words):  # needs no cell of any sweep
        from charsweep.ui import show

        return show(list(words))
    with listening():
        return work(words)


def work(words: Sequence[str]) -> None:
    """Whatever ends by itself, unless it is stopped."""
    if any(word.replace("'", "") == "action=caption" for word in words):  # needs no cell
        from charsweep.caption import caption_images

        return caption_images(words)
    from charsweep.config import load_sweep

    sweep = load_sweep(words)
    from charsweep import export, run, story

    if not is_leader():  # one of several processes that `accelerate launch` started
        return run.follow(sweep) if sweep.settings.action == "run" else None
    if sweep.settings.action == "run" and sweep.unmeasured:
        run.measure_widths(sweep)
        sweep = load_sweep(words)

    actions = {
        "run": run.run, "plan": run.show_plan, "report": run.rebuild_report,
        "story": story.tell_story, "export": export.export_cell,
    }  # fmt: skip
    actions[sweep.settings.action](sweep)
    return None


def _is_known(word: str) -> bool:
    return word.startswith("--config-dir")


def ask_hydra(words: Sequence[str]) -> int:
    """Let Hydra answer --help, --cfg, --info and shell completion."""
    import hydra

    from charsweep.compose import CONF

    sys.argv = ["charsweep", *words]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_nothing)()
    return 0


def _nothing(_: object) -> None:
    raise AssertionError("Hydra was asked for information only")


if __name__ == "__main__":
    sys.exit(main())
