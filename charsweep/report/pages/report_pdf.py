"""report.pdf: the paper on a sweep, set by Typst from report.typ.

Here is chosen what stands in the main text and what in the appendix, so that the main text stays
short whatever the sweep holds; how it looks is the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charsweep.core.system.console import wrapped
from charsweep.report.content import Chapter, Content
from charsweep.report.figures.contact_sheets import ContactSheet
from charsweep.report.figures.style import Plot
from charsweep.report.figures.tuning import TuningPlots
from charsweep.report.pages.typesetting import typeset
from charsweep.results import Record, facts
from charsweep.results.labels import LEVELS, axis_label, listing, metric_label
from charsweep.results.table import Table
from charsweep.results.verdict import objectives_of

TEMPLATE = Path(__file__).with_name("report.typ")
MOST_FIGURES = 9  # in the main text, which is to stay under 12 pages
MOST_PANELS = 8  # of one figure: a page
MOST_TRAINING_IMAGES = 12
MOST_PROMPTS = 12
MOST_FAILURES = 8
FEW_PROMPTS = 4  # rows of images in the main text
MOST_ROWS = 400  # of a table; the rest is in tables/
MOST_TILES = 700  # images, so that the file stays small enough to be sent by mail
COMMAND_WIDTH = 88  # letters of a line of a command, at 8 pt
PIXELS = 160  # of a image: 200 dots an inch at 2 cm

TUNING = (
    "Dashed: the untaught base on the same exam. Solid: the true pictures. Dotted: the training "
    "images among themselves. A red cross at the bottom: the cell diverged; a circle: it failed."
)


def write_pdf(content: Content, path: Path) -> str:
    """Write the PDF; the same content gives the same bytes. Returns the letters that no font has.

    Raises StoreError.
    """
    return typeset(TEMPLATE, paper(content), path, PIXELS)


def abstract(content: Content) -> list[str]:
    """What was done, then what was found: the one place where the paper gets its finding from."""
    record, sweep = content.record, content.record.sweep
    about = facts.count(len(sweep.character.images), "training image", "training images")
    axes = listing([axis_label(axis) for axis in record.axes] or ["nothing"], most=6)
    prompts = facts.count(len(sweep.prompts), "prompt", "prompts")
    seeds = facts.count(len(sweep.seeds), "seed", "seeds")
    cells = facts.count(len(record.cells), "cell", "cells")
    exam = f"on the images of {prompts} and {seeds} each" if sweep.prompts else "each by its exam"
    done = (
        f"A text-to-image model is taught {named(record)} from {about}. {cells}, which differ "
        f"in {axes}, are judged {exam}."
    )
    return [done, *content.verdict.sentences]


def named(record: Record) -> str:
    """The character with its noun."""
    character = record.sweep.character
    name = character.identifier or character.name or "the character"
    return f"{name} (“{character.class_noun}”)" if character.class_noun else name


def paper(content: Content) -> dict[str, Any]:
    """All words, tables and figures of the paper; report.typ says where they stand."""
    record, sweep = content.record, content.record.sweep
    chapters = [chapter(content, part, f"{at}") for at, part in enumerate(content.chapters)]
    plots = [front.plot for front in content.fronts if front.plot]
    beaten = "; no other equals or beats them on both counts and beats them on one."
    fronts = [
        figure(f"front-{at}", upper(plot.alt) + beaten, [plot], 4 * bool(at))
        for at, plot in enumerate(plots)
    ]
    figures = [*(words for part in chapters for words in part["figures"]), *fronts]
    ranked = sorted(
        (words for words in figures if words["rank"] is not None), key=lambda words: words["rank"]
    )
    for words in ranked[:MOST_FIGURES]:
        words["main"] = True
    failures = facts.failures(record)
    methods = dict.fromkeys(str(cell.values.get("method") or "") for cell in record.cells)
    bases = dict.fromkeys(cell.base for cell in record.cells if cell.base)
    return {
        "title": sweep.question or sweep.name,
        "sweep": sweep.name,
        "state": facts.state_line(record),
        "version": str(sweep.environment.get("charsweep") or ""),
        "abstract": abstract(content),
        "asked": facts.asked(record),
        "named": named(record),
        "drawings": [
            {"path": path, "note": "", "caption": text or path.name}
            for path, text in sweep.character.captioned[:MOST_TRAINING_IMAGES]
        ],
        "drawings_count": len(sweep.character.images),
        "prompts": sweep.prompts,
        "most_prompts": MOST_PROMPTS,
        "seeds": [str(seed) for seed in sweep.seeds],
        "methods": [name for name in methods if name],
        "bases": list(bases),
        "search": facts.search_text(sweep.search) if sweep.search else "",
        "metrics": [(metric, metric_label(metric)) for metric in record.metrics],
        "objectives": [metric_label(objective.metric).short for objective in objectives_of(record)],
        "levels": LEVELS,
        "comparison": shown(content.comparison),
        "advantages": content.sentences,
        "advantage_notes": content.advantages.notes if content.advantages else (),
        "votes": content.votes,
        "agreement": content.agreement,
        "chapters": within(chapters, MOST_TILES),
        "fronts": fronts,
        "front_notes": [
            f"{upper(front.title)}: {front.note}" for front in content.fronts if front.note
        ],
        "remarks": content.verdict.remarks,
        "notes": record.notes,
        "failures": failures[:MOST_FAILURES],
        "failures_count": len(failures),
        "cells_count": len(record.cells),
        "how": facts.how_it_ran(record),
        "versions": [f"{name} {value}" for name, value in sweep.environment.items() if value],
        "commands": [wrapped(typed, COMMAND_WIDTH) for typed in sweep.command.splitlines()],
        "next": [
            wrapped(step.command, COMMAND_WIDTH)
            for step in content.verdict.recommendation.next_steps
            if step.command
        ],
        "cells": shown(content.cells) if content.cells.rows else None,
        "seeds_table": shown(content.seeds),
        "training": [
            sheet_figure(f"training-{at}", sheet) for at, sheet in enumerate(content.training)
        ],
        "settings": sweep.settings,
    }


def upper(text: str) -> str:
    """A text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def shown(known: Table | None) -> Table | None:
    """A table's first rows."""
    if known is None or len(known.rows) <= MOST_ROWS:
        return known
    left = f"The first {MOST_ROWS} of {len(known.rows)} rows; all: tables/{known.name}.csv."
    return replace(known, rows=known.rows[:MOST_ROWS], notes=(*known.notes, left))


# -- results ---------------------------------------------------------------------------------------


def chapter(content: Content, part: Chapter, slug: str) -> dict[str, Any]:
    """One part of the results, or all: what was asked and found, plots, contact sheets."""
    sweep, verdict = part.record.sweep, part.verdict
    remarks = [text for text in verdict.remarks if text not in content.verdict.remarks]
    seen = telling_sheet(part)
    return {
        "title": (sweep.question or sweep.name) if part.is_part else "",
        "asked": facts.asked(part.record) if part.is_part else (),
        "found": [*verdict.sentences, *remarks] if part.is_part else (),
        "figures": [
            *plot_figures(part, slug),
            *([sheet_figure(f"seen-{slug}", seen, 1)] if seen else ()),
        ],
        "sheets": [
            sheet_figure(f"sheet-{slug}-{at}", sheet)
            for at, sheet in enumerate([*part.grids, *part.sheets])
        ],
    }


def plot_figures(part: Chapter, slug: str) -> list[dict[str, Any]]:
    """All plots of a chapter."""
    made = []
    if part.history:
        text = f"The search, trial by trial. {part.history.alt}."
        made.append(figure(f"history-{slug}", text, [part.history], 0))
    for at, plots in enumerate(part.tuning):
        made += tuning_figures(part, plots, f"{slug}-{at}", 4 * bool(at))
    losses = part.losses.panels if part.losses else ()
    for at, plot in enumerate(losses):
        text = f"{plot.alt}" + (f", {at + 1} of {len(losses)}" if len(losses) > 1 else "")
        text += ". Bold: mean over a twentieth of the curve"
        text += "; faint: every step." if part.losses and part.losses.raw else "."
        text += " A red cross: the loss stopped being finite there."
        made.append(figure(f"loss-{slug}-{at}", text, [plot], 2 if len(losses) == 1 else None))
    if part.heat_maps:
        text = "Two axes at once. Framed: the highest. A red cross: nothing finished there."
        made.append(figure(f"heat-{slug}", text, part.heat_maps, 3))
    if part.importance:
        text = "The share of each score’s variation that an axis explains."
        made.append(figure(f"importance-{slug}", text, [part.importance], 3))
    return made


def tuning_figures(part: Chapter, plots: TuningPlots, slug: str, rank: int) -> list[dict[str, Any]]:
    """One axis: the objectives, which the main text may show, and the other metrics."""
    panels, metrics = plots.panels, list(plots.panels)
    asked = [objective.metric for objective in objectives_of(part.record)]
    told = [*asked, *(() if part.is_part else ("quality_ratio", *metrics))]
    first = [metric for metric in dict.fromkeys(told) if metric in metrics][:4] or metrics[:2]
    rest = [metric for metric in metrics if metric not in first]
    text = TUNING
    text += " Every dot is a trial, early ones dark; a ring marks the highest." * plots.dots
    text += " Bands: two standard errors, over prompts and training seeds." * plots.banded
    text += " Thin: single combinations of the other axes. Bold: their means." * plots.thin
    made = [
        figure(f"tuning-{slug}", f"Scores along {plots.label}. {text}", [panels[m] for m in first],
               rank, plots)
    ]  # fmt: skip
    for at in range(0, len(rest), MOST_PANELS):
        own = [panels[metric] for metric in rest[at : at + MOST_PANELS]]
        made.append(
            figure(
                f"other-{slug}-{at}", f"Other scores along {plots.label}. {text}", own, None, plots
            )
        )
    return made


def figure(
    name: str,
    caption: str,
    plots: Sequence[Plot],
    rank: int | None,
    legend: TuningPlots | None = None,
) -> dict[str, Any]:
    """Plots side by side; `rank` says how soon the main text takes them in, None: never."""
    files = [(plot, plot.file.with_name(f"{plot.file.name}.svg")) for plot in plots]
    return {
        "name": name,
        "caption": caption,
        "rank": rank,
        "main": False,
        "plots": [{"file": file, "width": plot.size[0], "alt": plot.alt} for plot, file in files],
        "legend_title": legend.legend_title if legend else "",
        "legend": legend.legend if legend else (),
    }


# -- images --------------------------------------------------------------------------------------


def telling_sheet(part: Chapter) -> ContactSheet | None:
    """The images that tell most at a glance: a pair of axes, else the first prompts."""
    for sheet in part.grids:
        places = [tile.path for tiles in sheet.tiles for tile in tiles]
        is_pair = not sheet.name.startswith("grid-exam_seed")
        if is_pair and sum(path is not None for path in places) > max(5, len(places) / 2):
            return sheet
    if not part.sheets:
        return next(iter(part.grids), None)
    sheet, few = part.sheets[0], 2 if part.is_part else FEW_PROMPTS
    return replace(sheet, rows=sheet.rows[:few], tiles=sheet.tiles[:few])


def sheet_figure(name: str, sheet: ContactSheet, rank: int | None = None) -> dict[str, Any]:
    """A contact sheet as a figure."""
    text = f"{upper(sheet.title)}. {sheet.caption}"
    return {"name": name, "caption": text, "rank": rank, "main": False, "plots": (), "sheet": sheet}


def within(chapters: Sequence[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """The chapters with so many images in the appendix, none of them twice in the paper."""
    for part in chapters:
        seen = [words["sheet"] for words in part["figures"] if words["main"] and "sheet" in words]
        part["figures"] = [words for words in part["figures"] if words["main"] or words["plots"]]
        rest = [words for words in part["sheets"] if words["sheet"] not in seen]
        part["sheets"] = []
        for words in rest:
            budget -= sum(map(len, words["sheet"].tiles))
            part["sheets"] += [words] if budget >= 0 else []
        part["left_out"] = len(rest) - len(part["sheets"])
    return list(chapters)
