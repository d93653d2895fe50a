"""A told story as an MLflow run in the sweep's experiment.

One run per story: told anew with other images, the run is replaced. It has no tag
`charsweep.sweep`, by which the sweep's own runs are known.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from charsweep.core.keys import digest_of
from charsweep.core.store.files import inside, read_json, write_json
from charsweep.core.system.images import opened
from charsweep.core.system.redact import redacted
from charsweep.results.table import escape_markdown as plain
from charsweep.track.process import explained
from charsweep.track.server import database, hush, public, reach, tracking_uri

STORY, DIGEST = "charsweep.story", "charsweep.digest"


def log_story(sweep_folder: Path, uri: str | None = None) -> str | None:
    """Log `sweeps/<name>/story/` unless MLflow has it; what went wrong in one line, if anything.

    `uri` as configured, if it is.
    """
    sweep_folder = sweep_folder.resolve()
    root = sweep_folder.parent.parent
    uri = tracking_uri(root, uri)
    if _is_logged(sweep_folder, uri):
        return None
    hush()
    try:
        reach(uri)
        with contextlib.chdir(root):  # MLflow's default artifact folder is ./mlruns
            run_id = _log(sweep_folder, uri)
        known = {"uri": public(uri), "digest": _digest(sweep_folder), "run": run_id}
        write_json(sweep_folder / "story_run.json", known)
    except Exception as error:  # MLflow's, its database's and its server's many kinds
        return redacted(str(explained(error, uri)))
    return None


def _is_logged(sweep_folder: Path, uri: str) -> bool:
    path, file = sweep_folder / "story_run.json", database(uri)
    if not path.exists() or (file is not None and not file.exists()):
        return False
    known = read_json(path)
    return bool(known["uri"] == public(uri) and known["digest"] == _digest(sweep_folder))


def _digest(sweep_folder: Path) -> str:
    return digest_of((sweep_folder / "story" / "story.json").read_bytes())


def _log(sweep_folder: Path, uri: str) -> str:
    from mlflow import MlflowClient

    from charsweep.track.cell_runs import create_database, experiment_of

    create_database(uri)
    client = MlflowClient(tracking_uri=uri)
    story = read_json(sweep_folder / "story" / "story.json")
    experiment = experiment_of(
        client, story["sweep"], uri, sweep_folder.parent.parent
    ).experiment_id
    for old in client.search_runs([experiment], f"tags.`{STORY}` = '{story['story']}'"):
        client.delete_run(old.info.run_id)
    run = client.create_run(
        experiment, run_name=f"story: {story['title']}"[:200], tags=_tags(sweep_folder, story)
    )
    run_id = str(run.info.run_id)
    for name, value in _params(story).items():
        client.log_param(run_id, name, value)
    for scene in story["scenes"]:
        kept = next(one for one in scene["candidates"] if one["seed"] == scene["seed"])
        for score in ("dino", "clip_t"):
            client.log_metric(run_id, f"story_{score}", kept[score], step=scene["number"])
        with opened(inside(sweep_folder / "story", scene["picture"])) as picture:
            client.log_image(
                run_id, picture.convert("RGB"), key="scene", step=scene["number"], synchronous=True
            )
    client.log_artifacts(run_id, str(sweep_folder / "story"), "story")
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _tags(sweep_folder: Path, story: dict[str, Any]) -> dict[str, str]:
    captions = [f"{scene['number']}. {plain(scene['caption'])}" for scene in story["scenes"]]
    tags = {
        STORY: story["story"],
        DIGEST: _digest(sweep_folder),
        "mlflow.note.content": f"**{plain(story['title'])}**\n\n" + "\n".join(captions)[:4000],
    }
    runs = sweep_folder / "runs.json"
    if runs.exists():  # below the sweep's own run, as its cells are
        tags["mlflow.parentRunId"] = read_json(runs)["sweep"]
    return tags


def _params(story: dict[str, Any]) -> dict[str, Any]:
    about = story["drawn_by"]
    named = {name: about[name] for name in ("cell", "adapter", "base") if name in about}
    return {**about.get("values", {}), **named, "scenes": len(story["scenes"])}
