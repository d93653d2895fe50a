"""verdicts.md: question, verdict, tables, and figures as relative links."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from charsweep.core.system.templates import fill
from charsweep.report.content import Chapter, Content
from charsweep.report.figures.style import Plot
from charsweep.results import facts
from charsweep.results.table import escape_markdown, markdown

TEMPLATE = Path(__file__).with_name("verdicts_template.md")


def build_markdown(content: Content) -> str:
    """The page as text; it is to lie beside plots/ and contact_sheets/."""

    def link(plot: Plot) -> str:
        return quote(content.relative(plot.file.with_name(f"{plot.file.name}.png")))

    words = {
        "content": content,
        "sweep": content.record.sweep,
        "state": facts.state_line(content.record),
        "asked": facts.asked,
        "failures": facts.failures(content.record),
        "how": facts.how_it_ran(content.record),
        "has_pdf": (content.folder / "report.pdf").exists(),  # setting it may have failed
        "plots_of": plots_of,
        "link": link,
        "plain": escape_markdown,
        "quote": quote,
        "table": markdown,
    }
    return fill(TEMPLATE, words) + "\n"


def plots_of(chapter: Chapter) -> list[Plot]:
    """The plots of a part, all panels of an axis in one."""
    plots = [chapter.history, chapter.importance, *chapter.heat_maps]
    plots += [tuning.together for tuning in chapter.tuning]
    plots += chapter.losses.panels if chapter.losses else ()
    return [plot for plot in plots if plot is not None]
