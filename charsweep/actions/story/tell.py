"""Making a story: draw what is missing, choose, and write `sweeps/<name>/story/`.

The scenes are an image set like any other: every scene drawn with every seed, from the source's
weights, with the sampler of its cell. So an image depends on its prompt, seed and weights alone,
what is stored is not drawn again, and a second command only lays out (without loading torch).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from charsweep.actions.story.choose_pictures import (
    IDENTITY,
    OF_BOTH,
    OF_PLACE,
    PROMPT,
    RULE,
    Choice,
    check_keep,
    choose_pictures,
)
from charsweep.actions.story.page import write_page, write_pdf
from charsweep.actions.story.source import StorySource, find_source
from charsweep.character import Character
from charsweep.config import Sweep
from charsweep.config.cut_texts import Prompt, reader_of, refuse
from charsweep.config.drawing import size_of
from charsweep.config.exam import exam_of
from charsweep.config.settings.actions import SceneSettings, StorySettings
from charsweep.config.settings.plugins import PluginSettings
from charsweep.core.columns import regional
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.sides import NAMES, asked_for, in_halves
from charsweep.core.specs import PLACE, ImageSetSpec, ScoreSpec, trained_in
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder
from charsweep.core.store.store import image_manifest
from charsweep.core.system.console import out
from charsweep.plan import Plan, Scoring
from charsweep.plan.describe import unread
from charsweep.results.labels import in_quotes
from charsweep.track import log_story


def tell(sweep: Sweep) -> Path:
    """Draw what is missing of a story, write `sweeps/<name>/story/` and return its index.html.

    Raises `CharsweepError`: no such sweep, no finished cell, a scene or a seed that is not there.
    """
    story, store = sweep.settings.story, Store(sweep.root)
    source = find_source(sweep, store)
    images = scenes_of(story, source)
    check_scenes(images, source)
    scores = scores_of(story, source, images)
    check_keep(story.keep or {}, len(story.scenes), story.seeds)
    draw_missing(source, images, scores, store)
    dino, clip_t = (
        store.read_score(scores[name])["per_image"] or [0.0] * images.count  # without drawings
        for name in (IDENTITY, PROMPT)
    )
    choices = choose_pictures(_files(images), images.seeds, dino, clip_t, story.keep or {})
    page = write(source, images, choices, store)
    runtime = sweep.settings.runtime
    if runtime.tracking and (problem := log_story(sweep.folder, runtime.tracking_uri)):
        out(f"tracking: {problem}")
    out(f"story    {page}")
    out(f"to print {page.with_name('story.pdf')}")
    return page


def scenes_of(story: StorySettings, source: StorySource) -> ImageSetSpec:
    """The story as an image set: its prompts with the character in them, its seeds, its size."""
    prompts = prompts_of(story.scenes, source)
    size = size_of(story.size, source.images)
    return replace(source.images, prompts=prompts, seeds=tuple(story.seeds), size=size)


def prompts_of(scenes: Sequence[SceneSettings], source: StorySource) -> tuple[str, ...]:
    """Prompts with the characters in them; of both with words of its own for each half, where the
    cell drew them so."""
    prompts = (
        in_halves(scene.prompt) if source.in_halves else regional(scene.prompt).whole
        for scene in scenes
    )
    return tuple(filled(prompt, source.identifiers) for prompt in prompts)


def filled(text: str, called: Sequence[str]) -> str:
    """A text of the story with what the first is called in it, and the second."""
    for name, identifier in zip(NAMES, called, strict=False):
        text = text.replace(f"{{{name}}}", identifier)
    return text


def check_scenes(images: ImageSetSpec, source: StorySource) -> None:
    """ConfigError for scenes with a character that the base would not read; what else it does not
    is said."""
    assert images.drawing_base is not None
    trained = trained_in(images.snapshot.source)
    method = method_of(trained[0].method) if trained else None
    readers = [
        replace(
            reader_of(images.drawing_base, source.sweep.bases, identifier, method),
            taught=method is not None,
        )
        for identifier in source.identifiers
    ]
    prompts = [
        Prompt(f"scene {n}", text)
        for n, prompt in enumerate(images.prompts, start=1)
        for text in dict.fromkeys(regional(prompt).texts)
    ]
    prompts.append(Prompt("negative prompt", images.negative_prompt))
    refuse(line for reader in readers for line in reader.lost(prompts))
    for line in unread(list(readers[0].cut(prompts))):
        out(line)


def scores_of(
    story: StorySettings, source: StorySource, images: ImageSetSpec
) -> dict[str, ScoreSpec]:
    """How the images are scored: by name, against the training images and with the class noun.

    Of two characters, identity is that of whom each scene asks for.
    """
    settings, character = source.sweep.settings, source.sweep.character
    metrics = settings.metric
    if not {IDENTITY, PROMPT} <= metrics.keys() or not {"dino", "clip"} <= {
        spec.name for spec in source.sweep.encoders
    }:
        raise ConfigError(
            f"metric=[{','.join(metrics)}]: a story is chosen by {IDENTITY} and {PROMPT}; add them "
            "to metric=[...], and the encoders dino and clip to the models"
        )
    asked = [scene.prompt for scene in story.scenes]
    exam = exam_of(settings, character, asked, source.other)
    plugins = {name: settings.metric_plugin(name) for name in (IDENTITY, PROMPT)}
    if source.other:
        of_two = {**metrics[IDENTITY], "asked": tuple(map(asked_for, asked))}
        plugins[IDENTITY] = PluginSettings.model_validate({"name": IDENTITY, **of_two}).plugin()
    return {
        name: ScoreSpec(images, one, exam.read_by(one), untaught=None)
        for name, one in plugins.items()
    }


def draw_missing(
    source: StorySource, images: ImageSetSpec, scores: Mapping[str, ScoreSpec], store: Store
) -> None:
    """Have the engine draw and score what the store lacks."""
    missing = tuple(spec for spec in scores.values() if not store.has_score(spec))
    drawn = store.has_images(images)
    if drawn and not missing:
        return
    # Imported here: torch takes seconds, and a story that is drawn needs none.
    from charsweep.engine.local import LocalEngine
    from charsweep.engine.progress import ProgressView

    scoring = Scoring(images, draw=not drawn, scores=missing, class_noun_set=None)
    with ProgressView() as view:
        if not drawn:
            view.expect(images=len(_files(images)))
        engine = LocalEngine(source.sweep, store, view)
        assert not list(engine.execute(Plan(cells=(), references=(scoring,), trainings=())))


# -- writing ---------------------------------------------------------------------------------------


def write(
    source: StorySource, images: ImageSetSpec, choices: Sequence[Choice], store: Store
) -> Path:
    """Replace the story's folder whole; `story.json`, which tells all, comes last."""
    sweep, drawn = source.sweep.folder, store.images(images)
    record, by = record_of(source, images, choices, store), drawn_by(source)
    with new_folder(sweep / "story", "story.json", record) as folder:
        (folder / "scenes").mkdir()
        for scene, choice in zip(record["scenes"], choices, strict=True):
            shutil.copyfile(drawn / choice.chosen.file, folder / scene["picture"])
        if missing := write_pdf(record, by, folder):
            out(
                f"story.pdf: no font here has {missing}; install one that does, or print "
                "index.html from a browser"
            )
        has_report = (sweep / "report" / "index.html").exists()
        write_page(record, by, drawn, has_report, folder / "index.html")
    return sweep / "story" / "index.html"


def _rule(other: Character | None) -> str:
    """How pictures were chosen, of one character or two, or of one in a place."""
    if other is None:
        return RULE
    return f"{RULE}; {OF_PLACE if other.spec.kind == PLACE else OF_BOTH}"


def drawn_by(source: StorySource) -> str:
    """One line on the weights, and how they were picked."""
    about = source.about
    if "cell" not in about:
        return f"the adapter {Path(about['adapter']).name} on {about['base']}, {about['why']}"
    values = ", ".join(f"{name} {in_quotes(str(value))}" for name, value in about["values"].items())
    return f"{values} (cell {about['cell']} of sweep {source.sweep.name}, {about['why']})"


def record_of(
    source: StorySource, images: ImageSetSpec, choices: Sequence[Choice], store: Store
) -> dict[str, Any]:
    """What story.json says: who drew, by which rule, every candidate's scores, what was kept."""
    story, other = source.sweep.settings.story, source.other
    drawn: Mapping[str, Any] = image_manifest(images, 0.0)
    return {
        "story": story.name,
        "title": filled(story.title, source.names),
        "sweep": source.sweep.name,
        "drawn_by": dict(source.about),
        "character": words_on(source.sweep.character),
        "other": words_on(other) if other else None,
        "images": store.relative(store.images(images)),
        "sampler": images.sampler.name,
        "inference_steps": images.inference_steps,
        "guidance_scale": images.guidance_scale,
        "strength": images.strength,
        "size": list(images.pixels),
        "rule": _rule(other),
        "scenes": [
            {
                "number": number,
                "prompt": drawn["prompts"][number - 1],
                "caption": filled(scene.caption, source.names),
                "picture": f"scenes/{number:02d}.png",
                "seed": choice.chosen.seed,
                "chosen_by": "story.keep" if choice.by_person else "scores",
                "candidates": [asdict(candidate) for candidate in choice.candidates],
            }
            for number, (scene, choice) in enumerate(zip(story.scenes, choices, strict=True), 1)
        ],
    }  # fmt: skip


def words_on(character: Character) -> dict[str, str]:
    """What story.json says of a character."""
    spec = character.spec
    return {"name": spec.name, "identifier": spec.identifier, "class_noun": spec.class_noun}


def _files(images: ImageSetSpec) -> list[str]:
    return [entry["file"] for entry in image_manifest(images, 0.0)["files"]]
