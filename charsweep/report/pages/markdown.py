"""verdicts.md: question, verdict, tables, and figures as relative links."""

from __future__ import annotations

from urllib.parse import quote

from charsweep.report.content import Chapter, Content
from charsweep.report.figures.contact_sheets import ContactSheet
from charsweep.report.figures.style import Plot
from charsweep.results import Verdict, facts
from charsweep.results.table import escape_markdown as plain
from charsweep.results.table import markdown


def build_markdown(content: Content) -> str:
    """The page as text; it is to lie beside plots/ and contact_sheets/."""
    record = content.record
    lines = [f"# {plain(record.sweep.question or record.sweep.name)}", ""]
    lines += [f"charsweep · {plain(record.sweep.name)} · {plain(facts.state_line(record))}", ""]
    lines += pairs(facts.asked(record))
    for sheet in content.training:
        lines += sheet_figure("", sheet)
    lines += ["## Verdict", "", *judged(content.verdict)]
    lines += [text for note in record.notes for text in (f"**Note:** {plain(note)}", "")]
    if content.comparison is not None:
        lines += [f"## {plain(content.comparison.title)}", "", markdown(content.comparison), ""]
        lines += [text for note in content.comparison.notes for text in (plain(note), "")]
    if content.advantages is not None:
        lines += [f"## {plain(content.advantages.title)}", ""]
        lines += [*(f"- {plain(sentence)}" for sentence in content.sentences), ""]
    for chapter in content.chapters:
        lines += chapter_lines(content, chapter)
    lines += ["## Pareto fronts", ""] if content.fronts else []
    for front in content.fronts:
        if front.plot:
            lines += figure(content, front.plot)
        else:
            lines += [plain(f"{front.title.capitalize()}: {front.note}"), ""]
    lines += ["## What failed", ""]
    failed = [
        f"- {plain(label)}: {state}: {plain(why)}" for label, state, why in facts.failures(record)
    ]
    lines += [*(failed or ["Nothing: no cell diverged or failed."]), ""]
    lines += ["## How it was run", "", *pairs(facts.how_it_ran(record))]
    for command in record.sweep.command.splitlines():
        lines += code(command)
    links = [
        f"[{name}.csv](tables/{name}.csv)" for name in (table.name for table in content.tables)
    ]
    has_pdf = (content.folder / "report.pdf").exists()  # setting it may have failed
    to_print = " To print: [report.pdf](report.pdf)." if has_pdf else ""
    lines += [f"Tables: {', '.join(links)}.{to_print}"]
    return "\n".join(lines) + "\n"


def pairs(items: facts.Lines) -> list[str]:
    """Labels and texts as a list."""
    return [*(f"- {plain(label)}: {plain(text)}" for label, text in items), ""] if items else []


def judged(verdict: Verdict) -> list[str]:
    """The verdict as a quotation; below it what it costs, how to take it, and its remarks."""
    lines: list[str] = []
    for sentence in verdict.sentences:
        lines += [f"> {plain(sentence)}", ">"]
    found = verdict.recommendation
    taking = [f"It costs {plain(', '.join(found.costs))}. To take it:", "", *code(found.command)]
    remarks = [text for remark in verdict.remarks for text in (plain(remark), "")]
    return [*lines[:-1], "", *(taking if found.point else []), *remarks]


def code(command: str) -> list[str]:
    """A command as a block of code."""
    return ["```", command.replace("```", "'''"), "```", ""]


def chapter_lines(content: Content, chapter: Chapter) -> list[str]:
    """One part with its figures; without a heading of its own when it is the whole."""
    lines: list[str] = []
    if chapter.is_part:
        sweep = chapter.record.sweep
        lines += [f"## {plain(sweep.name)}: {plain(sweep.question or sweep.name)}", ""]
        lines += [*pairs(facts.asked(chapter.record)), *judged(chapter.verdict)]
    else:
        lines += ["## Figures", ""]
    plots = [chapter.history, chapter.importance, *chapter.heat_maps]
    plots += [tuning.together for tuning in chapter.tuning]
    plots += chapter.losses.panels if chapter.losses else ()
    for plot in plots:
        lines += figure(content, plot) if plot is not None else []
    for sheet in (*chapter.grids, *chapter.sheets):
        lines += sheet_figure(chapter.slug, sheet)
    return lines


def figure(content: Content, plot: Plot) -> list[str]:
    """A plot by its relative link."""
    file = quote(content.relative(plot.file.with_name(f"{plot.file.name}.png")))
    return [f"![{plain(plot.alt)}]({file})", ""]


def sheet_figure(slug: str, sheet: ContactSheet) -> list[str]:
    """A contact sheet by its relative link, below it its caption, if it has one."""
    folder = f"{quote(slug)}/" if slug else ""
    link = f"contact_sheets/{folder}{quote(sheet.name)}.png"
    below = [plain(sheet.caption), ""] if sheet.caption else []
    return [f"![{plain(sheet.title)}]({link})", "", *below]
