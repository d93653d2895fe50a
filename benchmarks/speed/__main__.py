"""`python -m benchmarks.speed`: how fast charsweep trains and draws here, beside a plain loop.

As it is, it takes the embedded models on a CPU, and random weights of the true sizes on a card.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.speed.measure import COMPILED, measure
from benchmarks.speed.results import Amount
from benchmarks.speed.study import study_lines, study_table, study_times
from benchmarks.speed.table import (
    Table,
    drawn,
    heading,
    lines,
    markdown,
    study_heading,
    tables,
    where,
    whole_heading,
    whole_lines,
)
from benchmarks.speed.task import METHODS, SNAPSHOTS, Task, find_task
from benchmarks.speed.whole import whole_run
from charsweep.core.errors import CharsweepError, ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0, or 2 when something is asked for that cannot be."""
    try:
        given = parser().parse_args(arguments)
        bench(given)
    except CharsweepError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    add = made.add_argument
    add("--models", choices=["embedded", "random"], help="default: random on a card, else embedded")
    add("--method", choices=METHODS, default="lora", help="default: lora")
    add("--base", choices=["sd15", "sdxl"], help="default: the method's own")
    add("--resolution", type=pixels, help="pixels; default: the base's own")
    add(
        "--precision",
        choices=["fp32", "tf32", "bf16", "fp16"],
        help="default: the models' own, bf16 on a card that has it",
    )
    add("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    add("--threads", type=count, help="CPU threads; default: torch's own choice")
    add("--packs", type=widths, metavar="1,8", help="learning rates at once; default: 1 and the "
        "models' pack, or 1, 2, 4 and 8 where that is measured on the device")  # fmt: skip
    add("--steps", type=count, help="steps of a loop in a round, which ends with a snapshot; "
        "default: 100 of the embedded models, as in the study, else 20")  # fmt: skip
    add("--rounds", type=count, default=7, help="default: 7")
    add("--warm-up", type=count, default=10, help="steps before; default: 10")
    add("--images", type=images, default=16, help="images of a round of drawing; 0: draw none")
    add("--inference-steps", type=count, default=25, help="as the scripts validate; default: 25")
    add("--compile", type=modes, default=(), metavar="MODE,MODE", help="the first of --packs with "
        "the base compiled too, in these modes of torch.compile: default, or reduce-overhead, "
        "which is CUDA graphs")  # fmt: skip
    add("--seconds", type=count, help="after so many, no further loop is begun")
    add("--no-memory", action="store_true", help="do not measure peak memory, which takes a "
        "process for each loop")  # fmt: skip
    add("--whole-run", type=count, metavar="STEPS", help="instead: one run with snapshots every "
        "100 steps and, if it is installed, MLflow; which share are the steps?")  # fmt: skip
    add("--study", action="store_true", help="instead: the study's 35 cells of one method by the "
        "clock, beside the script once for each; a row for each of --rounds")  # fmt: skip
    add("--out", type=Path, metavar="FILE.md", help="add what was measured to this file")
    return made


def bench(given: argparse.Namespace) -> None:
    given.until = time.monotonic() + (given.seconds or math.inf)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.out and not given.out.resolve().parent.is_dir():
        raise ConfigError(f"--out {given.out}: its folder is not there; make it first")
    task = find_task(
        given.models, given.method, given.base, given.resolution, given.precision, given.device,
        given.threads, given.packs,
    )  # fmt: skip
    way = study if given.study else whole if given.whole_run else compared
    title, facts, found = way(task, given)
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(drawn(title, facts, found))
    else:
        print(markdown(title, facts, found))
    if given.out:
        with given.out.open("a", encoding="utf-8") as file:
            file.write(markdown(title, facts, found) + "\n")


def compared(task: Task, given: argparse.Namespace) -> tuple[str, list[str], list[Table]]:
    """charsweep's loop beside the plain one."""
    steps = given.steps or (SNAPSHOTS if task.models == "embedded" else 20)
    amount = Amount(steps, given.rounds, given.warm_up, given.images, given.inference_steps)
    result = measure(task, amount, not given.no_memory, say, given.compile, given.until)
    return heading(result), lines(result), tables(result)


def whole(task: Task, given: argparse.Namespace) -> tuple[str, list[str], list[Table]]:
    """One run from its first step to its last."""
    say(f"{task.method.name}, {given.whole_run:,} steps")
    return whole_heading(task), whole_lines(task, whole_run(task, given.whole_run)), []


def study(task: Task, given: argparse.Namespace) -> tuple[str, list[str], list[Table]]:
    """The tuning study, beside a script for each of its cells."""
    found = []
    for number in range(1, given.rounds + 1):
        say(f"round {number} of {given.rounds}")
        found.append(study_times(task))
        own = found[-1]
        say(f"training {own.training_ratio:.1f} times as fast, whole {own.whole_ratio:.1f}")
    return study_heading(task), [*where(task), *study_lines(found[0])], [study_table(found)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} should be a whole number of at least 1")
    return int(text)


def images(text: str) -> int:
    return 0 if text == "0" else count(text)


def modes(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split(",")))
    if not set(found) <= set(COMPILED):
        raise argparse.ArgumentTypeError(f"{text} should list some of {', '.join(COMPILED)}")
    return found


def pixels(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 4096 or int(text) % 8:
        raise argparse.ArgumentTypeError(f"{text} should be a multiple of 8 from 16 to 4096")
    return int(text)


def widths(text: str) -> tuple[int, ...]:
    """As in conf: powers of two up to 64."""
    found = tuple(count(number) for number in text.split(","))
    wrong = [width for width in found if width not in (1, 2, 4, 8, 16, 32, 64)]
    if wrong or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(
            f"{text} should list different powers of two up to 64, as in 1,8"
        )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
