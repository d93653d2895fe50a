"""The tables of what was measured: as Markdown, or as rich draws them on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Group
from rich.table import Table as RichTable

from benchmarks.speed.clock import PARTS
from benchmarks.speed.machine import machine, today, versions
from benchmarks.speed.results import Measured, Ratio, Result
from benchmarks.speed.task import Task
from benchmarks.speed.whole import Whole


@dataclass(frozen=True)
class Table:
    """A heading and rows of texts under column names; the first column stands left."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def heading(result: Result) -> str:
    amount = result.amount
    return (
        f"{_what(result.task)}: {amount.rounds} rounds of {amount.steps} steps after "
        f"{amount.warm_up}"
    )


def whole_heading(task: Task) -> str:
    return f"{_what(task)}: a whole run"


def study_heading(task: Task) -> str:
    return f"{_what(task)}: a study, and a script for each of its cells"


def _what(task: Task) -> str:
    base = f"{task.models} {task.method.settings['base']}"
    return f"{task.method.name} on {base}, {task.resolution} px, {task.precision}, batch 1"


def lines(result: Result) -> list[str]:
    """Where and with what it was measured."""
    found = [
        *where(result.task),
        f"Matrix products in {result.task.precision}: {_short(result.peak_flops / 1e12)} TFLOP/s; "
        f"a step of one trial in the U-Net: {_short(result.flops / 1e9)} GFLOP",
    ]
    if result.too_wide:
        found.append(f"The memory does not hold {result.too_wide[0]} at once.")
    return [*found, *result.notes]


def whole_lines(task: Task, whole: Whole) -> list[str]:
    """What a whole run spent outside its steps."""
    found = [
        *where(task),
        f"{whole.steps:,} steps, {whole.snapshots} snapshots: {whole.step_seconds:.1f} s of "
        f"{whole.seconds:.1f} s in the steps themselves, {100 * whole.share:.1f} %",
    ]
    if whole.command_seconds is None:
        return [*found, "Without MLflow: Hydra, MLflow or Optuna is not installed here"]
    return [
        *found,
        "MLflow's process ran beside it; the whole command, with loading, drawing, scoring, "
        f"MLflow and the report, took {whole.command_seconds:.1f} s",
    ]


def where(task: Task) -> list[str]:
    return [f"Machine: {machine(task.device)}", f"Versions: {versions()}", f"Date: {today()}"]


def tables(result: Result) -> list[Table]:
    return [
        Table(
            "Speed",
            ("loop", "ms a step", "range", "ms a trial's step", "ms an image", "peak memory, MB",
             "of the matrix peak"),
            tuple(_speed(result, loop) for loop in result.loops),
        ),
        Table(
            "Where a step goes",
            ("loop", *PARTS),
            tuple(
                (loop.name, *(f"{100 * loop.parts.get(part, 0.0):.1f} %" for part in PARTS))
                for loop in result.loops
            ),
        ),
        Table(
            "Times as fast",
            ("what", "than", "median", "range", "rounds"),
            tuple(_ratio(ratio) for ratio in result.ratios),
        ),
    ]  # fmt: skip


def _speed(result: Result, loop: Measured) -> tuple[str, ...]:
    image = median(loop.seconds_per_image) if loop.seconds_per_image else None
    return (
        loop.name,
        _ms(loop.seconds_per_step),
        f"{_ms(min(loop.seconds))}–{_ms(max(loop.seconds))}",
        _ms(loop.seconds_per_step / loop.width),
        _ms(image) if image else "",
        f"{loop.peak_mb:,.0f}" if loop.peak_mb else "",
        f"{100 * result.share_of_peak(loop):.1f} %",
    )


def _ratio(ratio: Ratio) -> tuple[str, ...]:
    low, high = min(ratio.by_round), max(ratio.by_round)
    spread = f"{low:.2f}–{high:.2f}"
    return ratio.what, ratio.theirs, f"{ratio.median:.2f}", spread, str(len(ratio.by_round))


def markdown(title: str, facts: Sequence[str], found: Sequence[Table]) -> str:
    text = [f"## {title}", "", *(f"- {fact}" for fact in facts), ""]
    for table in found:
        text += [f"### {table.title}", "", _row(table.columns)]
        text.append("|---|" + "---:|" * (len(table.columns) - 1))
        text += [*(_row(row) for row in table.rows), ""]
    return "\n".join(text)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def drawn(title: str, facts: Sequence[str], found: Sequence[Table]) -> Group:
    """The same for a terminal."""
    parts: list[str | RichTable] = [title, *(f"  {fact}" for fact in facts)]
    for table in found:
        shown = RichTable(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            shown.add_row(*row)
        parts.append(shown)
    return Group(*parts)


def _ms(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.1f}" if milliseconds < 1000 else f"{milliseconds:,.0f}"


def _short(number: float) -> str:
    return f"{number:.3g}"
