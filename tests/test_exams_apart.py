"""A sweep over characters and bases from the first word to the last: an answer for each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import optuna
import pytest
from helpers.small import small

from charsweep.__main__ import main
from charsweep.actions.export.chosen import find_chosen
from charsweep.actions.story.source import find_source
from charsweep.config import load_sweep
from charsweep.core.errors import StoreError
from charsweep.core.store import Store
from charsweep.models import embedded
from charsweep.results import load_record, recommend

NAMES = ["character.images embedded:unicorn_girl", "character.images {}"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A grid of two characters, of which one has two drawings, and two learning rates."""
    root = tmp_path_factory.mktemp("variants")
    mia = root / "mia"
    mia.mkdir()
    for name in ("01.png", "02.png"):
        shutil.copy(embedded.FOLDER / "unicorn_girl" / name, mia)
    words = small(
        root, "character=folder", "character.identifier=Mia", "character.class_noun=girl",
        f"+axes.character.images=[embedded:unicorn_girl,{mia}]", "+axes.lr=[1e-2,1e-4]",
        "method=lora", "method.prompts=instance", "train_steps=1", "pack=2",
    )  # fmt: skip
    assert main(words) == 0
    return words


def root_of(words: list[str]) -> Path:
    return Path(words[0].partition("=")[2])


def names_of(words: list[str]) -> list[str]:
    return [name.format(root_of(words) / "mia") for name in NAMES]


def test_cells_that_compare_have_an_answer_each(words: list[str]) -> None:
    folder = root_of(words) / "sweeps" / "small"
    record = load_record(folder, folder.parent / "store")
    assert [part.sweep.name for part in record.parts] == names_of(words)
    assert [len(part.sweep.character.images) for part in record.parts] == [6, 2]
    assert [list(part.axes) for part in record.parts] == [["lr"], ["lr"]]
    for part in record.parts:
        assert part.sweep.bases["sdxl"].scores
        assert part.sweep.real["dino"] > 0
    found = recommend(record)
    assert found.point is None
    assert "So nothing is recommended over all of them." in found.reason
    assert [name for name, _ in found.each] == names_of(words)
    for (_, own), part in zip(found.each, record.parts, strict=True):
        assert own.cell is not None
        assert own.cell.cell in {cell.cell for cell in part.cells}
        assert f"export.cell={own.cell.cell}" in own.command
    one = record.parts[0].sweep.real, record.parts[1].sweep.real
    assert one[0] != one[1]


def test_every_outlet_gives_both_answers(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, names = root_of(words), names_of(words)
    folder = root / "sweeps" / "small"
    best = [own.cell.cell for _, own in recommend(load_record(folder, folder.parent / "store")).each
            if own.cell]  # fmt: skip
    page = (folder / "report" / "index.html").read_text()
    joint, *parts = page.split('<section class="part"')
    assert len(parts) == 2
    assert "An answer each" in joint
    for name in names:
        assert f"Of {name}: " in joint
    assert len({file.parent for file in (folder / "report/contact_sheets").glob("*/*.png")}) == 2
    storage = f"sqlite:///{folder / 'study.db'}"
    study = optuna.load_study(study_name="small", storage=storage)
    assert study.user_attrs["recommended"]["each"] == dict(zip(names, best, strict=True))
    assert {trial.params["character.images"] for trial in study.trials} == {
        name.partition(" ")[2] for name in names
    }
    before = (folder / "cells.csv").read_bytes()
    capsys.readouterr()
    assert main(words) == 0  # resumed: nothing is left to do
    told = capsys.readouterr()
    assert "training" not in told.err
    assert (folder / "cells.csv").read_bytes() == before
    for name in names:
        assert f"of       {name}" in told.out
    saved = json.loads((folder / "sweep.json").read_text())
    assert [exam["name"] for exam in saved["exams"]] == names


def test_mlflow_has_both_answers(words: list[str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root_of(words) / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert len(experiment.tags["charsweep.recommended"].split()) == 2
    assert len(experiment.tags["charsweep.recommended_run"].split()) == 2
    note = experiment.tags["mlflow.note.content"].replace("\\", "")
    for name in names_of(words):
        assert f"Of {name}: " in note


def test_a_cell_is_taken_with_its_own_character(words: list[str]) -> None:
    sweep = load_sweep(words)
    store = Store(sweep.root)
    with pytest.raises(StoreError, match="not comparable") as refused:
        find_chosen(sweep, store)
    folder = sweep.folder
    found = recommend(load_record(folder, store.folder))
    for name, own in found.each:
        assert own.cell is not None
        assert f"Of {name}: {own.cell.cell}." in str(refused.value)
        chosen = find_chosen(load_sweep([*words, f"export.cell={own.cell.cell}"]), store)
        assert chosen.cell.cell == own.cell.cell
        told = find_source(load_sweep([f"root={sweep.root}", "name=small",
                                       f"story.cell={own.cell.cell}"]), store)  # fmt: skip
        source = told.images.snapshot.source
        assert told.sweep.character.spec.digests == source.character.digests  # type: ignore[union-attr]
