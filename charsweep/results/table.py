"""A table of results, and writing it as CSV, Markdown and LaTeX.

The page and the PDF set the same `Table`, so no figure is rounded or left out in two ways.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from charsweep.results.records import Value

REFERENCE = "reference"  # the kind of a row that no cell stands behind
LONG = 40  # rows; a longer table goes over several pages of a paper
MOST_COLUMNS = 13  # side by side on a page 1,200 pixels wide
SCORE, COST = "score", "cost"  # kinds of columns


@dataclass(frozen=True)
class Column:
    """One column: its name in the CSV, its heading, whether readers see it, what it is of."""

    key: str
    title: str
    number: bool = True
    shown: bool = True
    kind: str = ""  # score, cost or neither


@dataclass(frozen=True)
class TableEntry:
    """One place of a table: the figure as it is, as it reads, and what stands small beside it."""

    value: Value = None
    text: str = ""
    note: str = ""
    best: bool = False
    bad: bool = False
    marks: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """All of it in one line of plain text."""
        note = f"({self.note})" if self.note and self.text and not self.bad else self.note
        return " ".join(part for part in (self.text, note, ", ".join(self.marks)) if part)


@dataclass(frozen=True)
class TableRow:
    """One line; `order` is its place in the CSV where that is another than here."""

    entries: tuple[TableEntry, ...]
    kind: str = ""  # best, reference or nothing
    order: int = 0


@dataclass(frozen=True)
class Table:
    """A table with its caption; a reference's name may run over the first `lead` columns."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    lead: int = 1
    common: str = ""  # what is the same in every row, and so in no column; the first of the notes

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that readers see."""
        return tuple(column for column in self.columns if column.shown)

    def visible(self, row: TableRow) -> tuple[TableEntry, ...]:
        """A row's entries in those columns."""
        pairs = zip(row.entries, self.columns, strict=True)
        return tuple(entry for entry, column in pairs if column.shown)

    @property
    def blocks(self) -> tuple[Table, ...]:
        """The table; one too wide for a page as two, its scores and its costs."""
        kinds = {column.kind for column in self.shown}
        if len(self.shown) <= MOST_COLUMNS or not {SCORE, COST} <= kinds:
            return (self,)
        costs = self.without(SCORE)
        cells = tuple(row for row in costs.rows if row.kind != REFERENCE)  # which took nothing
        return self.without(COST), replace(costs, rows=cells)

    def without(self, kind: str) -> Table:
        """The table without the columns of one kind, as readers see it."""
        columns = (
            replace(column, shown=column.shown and column.kind != kind) for column in self.columns
        )
        return replace(self, columns=tuple(columns))


def condensed(table: Table) -> Table:
    """The table with each column that says the same in all its rows hidden, and said in a line.

    The first column stays, which names the references, and so does one in which a reference
    differs.
    """
    rows = [row for row in table.rows if row.kind != REFERENCE]
    if len(rows) < 2:
        return table
    first = table.columns.index(table.shown[0])
    columns, said, lead = list(table.columns), [], table.lead
    for at, column in enumerate(table.columns):
        own = {row.entries[at].words for row in rows}
        references = {row.entries[at].words for row in table.rows if row.kind == REFERENCE}
        if at == first or not column.shown or len(own) > 1 or references - own - {""}:
            continue
        columns[at] = replace(column, shown=False)
        lead -= sum(earlier.shown for earlier in table.columns[:at]) < table.lead
        name, _, unit = column.title.partition(", ")  # "weights, MB"
        said += [" ".join(filter(None, (name, text, unit))) for text in own if text]
    common = f"The same for all: {'; '.join(said)}." if said else ""
    notes = (common, *table.notes) if common else table.notes
    return replace(table, columns=tuple(columns), notes=notes, lead=lead, common=common)


def text_entry(text: str) -> TableEntry:
    """An entry of words."""
    return TableEntry(text or None, text)


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Write each table as .csv (unrounded), .md and .tex (as they read)."""
    folder.mkdir(parents=True)
    for table in tables:
        write_csv(table, folder / f"{table.name}.csv")
        common = f"\n\n{escape_markdown(table.common)}" if table.common else ""
        text = f"{markdown(table)}{common}\n"
        (folder / f"{table.name}.md").write_text(text, encoding="utf-8")
        (folder / f"{table.name}.tex").write_text(latex(table) + "\n", encoding="utf-8")


def write_csv(table: Table, path: Path) -> None:
    """Every column with unrounded figures, references left out; blank where none applies."""
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([column.key for column in table.columns])
        for row in sorted(table.rows, key=lambda row: row.order):
            if row.kind != REFERENCE:
                out.writerow([entry.value for entry in row.entries])


# -- Markdown --------------------------------------------------------------------------------------


def markdown(table: Table) -> str:
    """The table in GitHub's dialect."""
    heads = [escape_markdown(column.title) for column in table.shown]
    rules = ["---:" if column.number else "---" for column in table.shown]
    lines = [heads, rules, *(markdown_row(table, row) for row in table.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_row(table: Table, row: TableRow) -> list[str]:
    """The entries of a row; the best figures bold, references in italics."""
    texts = []
    for entry in table.visible(row):
        text = escape_markdown(entry.words)
        wrapped = f"**{text}**" if entry.best and text else text
        texts.append(f"*{text}*" if row.kind == REFERENCE and text else wrapped)
    return texts


def escape_markdown(text: str) -> str:
    """Nothing in the text is read as markup, HTML or the end of a cell."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", text)


# -- LaTeX -----------------------------------------------------------------------------------------

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "#": r"\#", "$": r"\$", "%": r"\%",
    "&": r"\&", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "\N{MINUS SIGN}": r"$-$", "\N{MULTIPLICATION SIGN}": r"$\times$", "·": r"$\cdot$",
    "…": r"\ldots{}", "₂": r"$_2$", "\N{EN DASH}": "--", "[": "{[}", "]": "{]}",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Nothing in the text is a command; also not a bracket that \\\\ would take as its own."""
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def latex(table: Table) -> str:
    """A booktabs table with its caption; one of many rows is a longtable."""
    spec = "".join("r" if column.number else "l" for column in table.shown)
    head = " & ".join(escape_latex(column.title) for column in table.shown) + r" \\"
    caption = rf"\caption{{{escape_latex(' '.join((table.title + '.', *table.notes)))}}}"
    label = rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.name.lower())}}}"
    body = latex_body(table)
    if len(table.rows) > LONG:
        start = [rf"\begin{{longtable}}{{{spec}}}", rf"{caption}{label} \\"]
        every = [r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        return "\n".join(["% needs booktabs, longtable", *start, *every, *body, r"\end{longtable}"])
    start = ["% needs booktabs, graphicx", r"\begin{table}", r"\centering", caption, label]
    start += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    grid = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*start, *grid, r"\end{tabular}}", r"\end{table}"])


def latex_body(table: Table) -> list[str]:
    """The rows, a rule where references end and cells begin or the other way round."""
    lines: list[str] = []
    before: str | None = None
    for row in table.rows:
        group = row.kind if row.kind == REFERENCE else ""
        if before is not None and group != before:
            lines.append(r"\midrule")
        before = group
        texts = []
        for entry in table.visible(row):
            text = escape_latex(entry.words)
            texts.append(rf"\textbf{{{text}}}" if entry.best and text else text)
        lines.append(" & ".join(texts) + r" \\")
    return lines
