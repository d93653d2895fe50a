"""The note and the saved view with which MLflow's UI opens a sweep.

The UI by itself shows a collapsed parent run, no scores, and some twenty charts in the order of
the alphabet. It keeps views as tags of the experiment; `action=ui` links to ours. The format is
that of MLflow 3 (`mlflow.sharedViewState`), which is not documented: a UI that does not know it
shows what it shows anyhow.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from charsweep.results import Verdict
from charsweep.results.table import escape_markdown as plain
from charsweep.track.server import VIEW

SECTION = "charsweep"
STRIP = "recommended.png"  # what the recommended cell draws
PICTURE = f"get-artifact?path={STRIP}&run_uuid="  # as MLflow's server answers
SMOOTHNESS = 70  # of 100, for the loss; by eye
# MLflow lists metrics by the alphabet, before the axes: more of them would hide what one compares.
COLUMNS = ("score", "quality_ratio", "identity", "prompt")
CURVE = {
    "lineSmoothness": SMOOTHNESS,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "log",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "useGlobalXaxisKey": False,
    "useGlobalLineSmoothing": False,
    "range": {},
}


def question(sweep: Mapping[str, Any]) -> str:
    return str(sweep.get("question") or sweep["name"])


def note_while_running(sweep: Mapping[str, Any]) -> str:
    """The question and the command, as Markdown."""
    return (
        f"**{plain(question(sweep))}** The answer stands here when the sweep has ended.\n\n"
        + _typed(sweep)
    )


def note_with_verdict(
    sweep: Mapping[str, Any], verdict: Verdict, report: str | None, run: str = ""
) -> str:
    """The question, the report's verdict and remarks, pictures, and the command, as Markdown.

    `report` is the address of the report within the UI, `run` the one that has `STRIP`.
    """
    first, *rest = map(plain, verdict.sentences)
    blocks = [f"**{plain(question(sweep))}** {first}"]
    blocks += [f"![what it draws]({PICTURE}{run})"] if run else []
    blocks += rest
    blocks += ["\n".join(f"- {plain(remark)}" for remark in verdict.remarks)]
    taking = verdict.recommendation.command
    blocks += [f"To take it: {_code(taking)}"] if taking else []
    following = [step.command for step in verdict.recommendation.next_steps if step.command]
    blocks += [f"To try next: {_code(command)}" for command in following]
    blocks += [f"[The report, with images]({report})"] if report else []
    return "\n\n".join(block for block in [*blocks, _typed(sweep)] if block)


def unfinished(sweep: Mapping[str, Any]) -> str:
    """What a stopped command has left undone, as a Markdown block; empty if nothing."""
    stopped = sweep.get("stopped")
    if not stopped or sweep.get("finished"):
        return ""
    done, asked = stopped["finished"], stopped["asked"]
    return f"Stopped with {done} of {asked} cells finished; the same command goes on.\n\n"


def _typed(sweep: Mapping[str, Any]) -> str:
    return _code(str(sweep.get("command", "")))


def _code(text: str) -> str:
    """Markdown that shows a text as it is, with more backquotes around than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def saved_view(sweep: Mapping[str, Any]) -> str:
    """The experiment's view, for `VIEW_TAG`: cells by the first objective; charts that answer."""
    objectives = [objective["metric"] for objective in sweep.get("objectives") or []]
    down = [objective.get("direction") != "minimize" for objective in sweep.get("objectives") or []]
    scores = list(dict.fromkeys([*objectives, *(sweep.get("metrics") or [])]))
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{objectives[0]}`" if objectives else "attributes.start_time",
        "orderByAsc": bool(down) and not down[0],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [
            *(f"params.`{axis}`" for axis in sweep.get("axes") or {}),
            *(f"metrics.`{name}`" for name in dict.fromkeys([*objectives, *COLUMNS])),
        ],
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts(objectives, scores),
        "isAccordionReordered": True,  # else the UI sorts sections by name, images first
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": "Losses, scores and pictures",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
    }
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    envelope = {"name": VIEW, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(envelope)


def charts(objectives: Sequence[str], scores: Sequence[str]) -> list[dict[str, Any]]:
    """The loss curves, the objectives against each other, the images, a bar per score."""
    found = [_chart("LINE", "loss", **_of("loss"), **CURVE)]
    if len(objectives) > 1:
        up, across = ({"key": name, "type": "METRIC"} for name in objectives[:2])
        found.append(_chart("SCATTER", "objectives", xaxis=across, yaxis=up))
    shown = {"imageKeys": ["contact_sheet"], "step": 0, "showRunParams": False}
    found.append(_chart("IMAGE", "pictures", **shown))
    return found + [_chart("BAR", name, **_of(name)) for name in scores]


def _chart(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "uuid": f"{SECTION}-{name}",
        "type": kind,
        "metricSectionId": SECTION,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }


def _of(metric: str) -> dict[str, Any]:
    return {"metricKey": metric, "selectedMetricKeys": [metric]}
