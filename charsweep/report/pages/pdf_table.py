"""A table in, set on paper out: as large as fits, headings on every page, columns split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charsweep.report.figures.style import BAD, GRID, INK, MUTED
from charsweep.report.pages.pdf_page import LEFT, ROOM, Paper
from charsweep.report.pages.pdf_text import LEADING, width, wrap
from charsweep.results.table import REFERENCE, Column, Entry, Table, TableRow

SIZES = (8.0, 7.5, 7.0, 6.5, 6.0)  # the largest that fits is taken
PAD = 7.0  # between columns
SMALL = 0.85  # of the letters of what stands below a figure
MOST_TEXT = 120.0  # points of a column of words before they wrap
MOST_KEPT = 260.0  # points; a table that needs less is not broken over two pages
TINT = "#e8f4ee"


@dataclass(frozen=True)
class Fit:
    """A size of letters and the width of every column at it."""

    size: float
    widths: tuple[float, ...]


def set_table(paper: Paper, table: Table, most: int, heading: float = 13.0) -> None:
    """Set the title and at most so many rows; say how many are left to the files."""
    rows = table.rows[:most]
    made = blocks(table, rows)
    whole = block_height(table, rows, *made[0])
    paper.heading(table.title, heading, keep=20 + min(MOST_KEPT, whole))
    for indices, fit in made:
        set_block(paper, table, rows, indices, fit)
        paper.y += 6
    for note in table.notes:
        paper.muted(note)
    if len(table.rows) > most:
        paper.muted(
            f"The first {most} of {len(table.rows)} rows; all of them: tables/{table.name}.csv."
        )


def blocks(table: Table, rows: Sequence[TableRow]) -> list[tuple[list[int], Fit]]:
    """All columns at the largest size that fits; if none does, as many blocks as it takes.

    Every further block repeats the table's first column.
    """
    everything = list(range(len(table.shown)))
    for roomy, sizes in ((True, SIZES[:-1]), (False, SIZES)):  # small letters before narrow columns
        for size in sizes:
            if fit := fitted(table, rows, everything, size, roomy):
                return [(everything, fit)]
    lead = everything[: table.lead] or everything[:1]
    found, current = [], list(lead)
    for index in everything[len(lead) :]:
        if len(current) > len(lead) and not fitted(table, rows, [*current, index], SIZES[1]):
            found.append(current)
            current = list(lead)
        current.append(index)
    fits = [(own, fitted(table, rows, own, SIZES[1])) for own in [*found, current]]
    return [(own, fit or forced(table, rows, own)) for own, fit in fits]


def fitted(
    table: Table, rows: Sequence[TableRow], indices: Sequence[int], size: float, roomy: bool = False
) -> Fit | None:
    """The widths at a size, words wrapped where that helps (`roomy`: nowhere much); or None."""
    asked = [asked_widths(table, rows, index, size) for index in indices]
    room = ROOM - PAD * (len(indices) - 1)
    least, most = sum(low for low, _ in asked), sum(high for _, high in asked)
    if least > room or (roomy and most > room):
        return None
    share = 1.0 if most <= room else (room - least) / (most - least)
    return Fit(size, tuple(low + (high - low) * share for low, high in asked))


def forced(table: Table, rows: Sequence[TableRow], indices: Sequence[int]) -> Fit:
    """Too wide at any size: the smallest letters, words broken."""
    size = SIZES[-1]
    asked = [asked_widths(table, rows, index, size)[0] for index in indices]
    room = ROOM - PAD * (len(indices) - 1)
    return Fit(size, tuple(low * room / sum(asked) for low in asked))


def asked_widths(
    table: Table, rows: Sequence[TableRow], index: int, size: float
) -> tuple[float, float]:
    """The least and the most that a column wants: its longest word, its longest line."""
    column = table.shown[index]
    heads = [width(word, size, "bold") for word in column.title.split()]
    own = [
        table.visible(row)[index]
        for row in rows
        if row.kind != REFERENCE or index >= table.lead  # a reference's name runs over its lead
    ]
    whole = [longest(entry, size, whole=True) for entry in own]
    least = whole if column.number else [longest(entry, size, whole=False) for entry in own]
    low = max([*heads, *least], default=0)
    high = max([low, *whole]) if column.number else max(low, min(MOST_TEXT, max(whole, default=0)))
    return low, high


def longest(entry: Entry, size: float, whole: bool) -> float:
    """The widest line, or the widest word, of an entry."""
    found = [0.0]
    for text, scale, kind in parts_of(entry):
        words = [text] if whole else text.split()
        found += [width(word, size * scale, kind) for word in words]
    return max(found)


def parts_of(entry: Entry) -> list[tuple[str, float, str]]:
    """What stands below each other in an entry: text, note, marks, with their sizes."""
    kind = "bold" if entry.best or entry.bad else "plain"
    parts = [(entry.text, 1.0, kind), (entry.note, SMALL, "plain")]
    parts += [(mark, SMALL, "bold") for mark in entry.marks]
    return [part for part in parts if part[0]]


def set_block(
    paper: Paper, table: Table, rows: Sequence[TableRow], indices: Sequence[int], fit: Fit
) -> None:
    """Headings and rows of some columns; the headings again on each new page."""
    columns = [table.shown[index] for index in indices]
    rows = [row for row in rows if row.kind != REFERENCE or says_something(table, row, indices)]
    whole = block_height(table, rows, indices, fit)
    paper.need(whole if whole < MOST_KEPT else fit.size * 8)
    set_head(paper, columns, fit)
    before = ""
    for row in rows:
        height = row_height(table, row, indices, fit)
        if height > paper.left_over:
            paper.turn()
            set_head(paper, columns, fit)
        kind = row.kind if row.kind == REFERENCE else ""
        if row is not rows[0] and kind != before:
            paper.rule(paper.y, 0.5)
        before = kind
        set_row(paper, table, row, indices, fit, height)
    paper.rule(paper.y, 0.9)


def block_height(table: Table, rows: Sequence[TableRow], indices: Sequence[int], fit: Fit) -> float:
    """Points that a block takes with its headings."""
    return sum(row_height(table, row, indices, fit) for row in rows) + fit.size * 6


def says_something(table: Table, row: TableRow, indices: Sequence[int]) -> bool:
    """Whether a reference has a figure in these columns."""
    entries = table.visible(row)
    return any(entries[index].text for index in indices if index >= table.lead)


def set_head(paper: Paper, columns: Sequence[Column], fit: Fit) -> None:
    """The headings, on the same last line, between two rules."""
    size = fit.size
    heads = [wrap(c.title, w + 0.5, size, "bold") for c, w in zip(columns, fit.widths, strict=True)]
    deep = max(len(lines) for lines in heads)
    paper.rule(paper.y, 0.9)
    top = paper.y + 2
    x = LEFT
    for column, lines, wide in zip(columns, heads, fit.widths, strict=True):
        for index, line in enumerate(lines):
            base = top + (deep - len(lines) + index + 0.78) * size * LEADING
            at = x + wide - width(line, size, "bold") if column.number else x
            paper.write(at, base, line, size, INK, "bold")
        x += wide + PAD
    paper.y = top + deep * size * LEADING + 2
    paper.rule(paper.y, 0.5)


def wrapped(entry: Entry, column: Column, wide: float, size: float) -> list[tuple[str, float, str]]:
    """The lines of an entry; figures never break."""
    if column.number:
        return parts_of(entry)
    return [
        (line, scale, kind)
        for text, scale, kind in parts_of(entry)
        for line in wrap(text, wide + 0.5, size * scale, kind)
    ]


def row_height(table: Table, row: TableRow, indices: Sequence[int], fit: Fit) -> float:
    """Points that a row takes."""
    entries = table.visible(row)
    heights = [
        sum(scale for _, scale, _ in wrapped(entries[i], table.shown[i], wide, fit.size))
        for i, wide in zip(indices, widths_for(table, row, indices, fit), strict=True)
    ]
    return max(1.0, *heights) * fit.size * LEADING + 4


def widths_for(table: Table, row: TableRow, indices: Sequence[int], fit: Fit) -> tuple[float, ...]:
    """The widths, the first as wide as all the columns that a reference's name runs over."""
    if row.kind != REFERENCE:
        return fit.widths
    lead = sum(index < table.lead for index in indices)
    first = sum(fit.widths[:lead]) + PAD * (lead - 1)
    return (first, *fit.widths[1:])


def set_row(
    paper: Paper, table: Table, row: TableRow, indices: Sequence[int], fit: Fit, height: float
) -> None:
    """One line of the table."""
    if row.kind == "best":
        paper.box(LEFT - 2, paper.y + 0.5, ROOM + 4, height - 1, TINT)
    entries, widths = table.visible(row), widths_for(table, row, indices, fit)
    x = LEFT
    for index, wide, step in zip(indices, widths, fit.widths, strict=True):
        entry, column = entries[index], table.shown[index]
        y = paper.y + 2
        for text, scale, kind in wrapped(entry, column, wide, fit.size):
            size = fit.size * scale
            y += size * LEADING
            at = x + wide - width(text, size, kind) if column.number else x
            faint = scale < 1 and not entry.marks
            colour = MUTED if faint or row.kind == REFERENCE else INK
            paper.write(at, y - size * 0.32, text, size, BAD if entry.bad else colour, kind)
        x += step + PAD
    paper.y += height
    paper.rule(paper.y, 0.3, GRID)
