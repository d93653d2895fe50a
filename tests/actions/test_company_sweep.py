"""A sweep of two characters from the command to the export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.adapters import ATTENTION, base_of, naming, write_adapter
from helpers.small import pictures, small, snapshot_bytes, sweep_of

from charsweep.actions.export.write import export
from charsweep.actions.run import run
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.store import Store
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.kohya import write_kohya
from charsweep.results import CellResult, read_results

PROMPT = "a picture of {subject} on the left and {other} on the right on the beach"
WORDS = (
    "characters=[unicorn_girl,thunder_bear]", "method=lora", "train_steps=2", "lr=1e-2",
    "runtime.workers=1", "runtime.tracking=false", "runtime.energy=false",
    f"exam.parts={{together:{{prompts:['{PROMPT}'],seeds:[0,1],size:[1.5,1]}}}}",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sweep of two adapters, put together, has been run."""
    made = tmp_path_factory.mktemp("company")
    run(load_sweep(small(made, *WORDS)))
    return made


def results(root: Path) -> dict[tuple[float, float], CellResult]:
    cells = read_results(root / "sweeps" / "small" / "cells.jsonl").values()
    return {(one.values["strength"], one.values["other_strength"]): one for one in cells}


def test_each_is_trained_once_and_both_are_drawn(root: Path) -> None:
    found = results(root)
    assert set(found) == {(1, 0), (0, 1), (1, 1)}
    assert all(one.finished for one in found.values())
    trained = sorted(path.parent.name for path in root.glob("sweeps/store/*/loss.csv"))
    assert len(trained) == 2
    together = found[1, 1]
    names = ("first_score", "other_score", "together")
    assert together.scores["score"] == min(together.scores[name] for name in names)
    images = Store(root).folder / together.parts["together"][0]
    assert len(pictures(images)) == 2


def test_alone_its_pictures_are_those_of_its_own_sweep(root: Path, tmp_path: Path) -> None:
    own = [word for word in WORDS if not word.startswith(("characters", "exam.parts"))]
    run(load_sweep(small(tmp_path, *own)))
    (cell,) = read_results(tmp_path / "sweeps" / "small" / "cells.jsonl").values()
    alone = results(root)[1, 0]
    assert cell.images == alone.images
    one, other = (pictures(Store(place).folder / str(cell.images)) for place in (root, tmp_path))
    assert one == other


def test_other_strengths_train_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.glob("sweeps/store/*/loss.csv")}
    run(load_sweep(small(root, *WORDS, "+axes.other_strength=[0.5,1]")))
    assert (1, 0.5) in results(root)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(root.glob("sweeps/store/*/loss.csv"))) == 2


def test_an_export_holds_both_adapters_and_says_at_which_strength(root: Path) -> None:
    cell = results(root)[1, 1].cell
    folder = export(sweep_of(root, *WORDS, f"export.cell={cell}"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| UnicornGirl | 1 |" in card
    assert "pipeline.set_adapters(['UnicornGirl', 'ThunderBear'], [1.0, 1.0])" in card
    for name in ("UnicornGirl", "ThunderBear"):
        assert any(file.endswith(".safetensors") for file in snapshot_bytes(folder / name))
    code = card.split("```python\n")[1].split("\n```")[0]
    compile(code, "card", "exec")
    assert json.loads((folder / "export.json").read_text())["cell"] == cell


def files(root: Path) -> list[Path]:
    """The adapters of both, as files."""
    found = {one.trajectory: one for one in results(root).values()}
    steps = [root / "sweeps/store" / found[name].trajectory / "step-000002" for name in found]
    return [step / ADAPTER_FILE for step in steps if (step / ADAPTER_FILE).exists()]


def test_two_adapters_from_elsewhere_are_put_together(root: Path, tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith(("train_steps", "lr"))]
    own = [f"{{path: {path}, name: n{number}}}" for number, path in enumerate(files(root))]
    words = [*small(tmp_path, *words), "train=false", f"adapters=[{','.join(own)}]"]
    run(load_sweep(words))
    found = results(tmp_path)
    assert set(found) == {(1, 0), (0, 1), (1, 1)}
    scores = {at: one.scores["together"] for at, one in found.items()}
    assert scores == {
        at: one.scores["together"] for at, one in results(root).items() if at in scores
    }
    folder = export(load_sweep([*words, f"export.cell={found[1, 1].cell}"]))
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"images", "n0", "n1"}
    with pytest.raises(ConfigError, match="adapters: 1 are given, and UnicornGirl and ThunderBear"):
        load_sweep([*words[:-1], f"adapters=[{own[0]}]"])


def test_two_of_unlike_bases_are_one_message(root: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "of_sd15.safetensors"
    write_adapter(base_of("sd15"), tmp_path / "other", targets=ATTENTION)
    write_kohya(tmp_path / "other", naming("sd15"), foreign, {"ss_base_model_version": "sd_v1"})
    words = [word for word in WORDS if not word.startswith(("train_steps", "lr"))]
    given = f"adapters=[{files(root)[0]},{foreign}]"
    with pytest.raises(ModelsError, match=r"cannot be put on sdxl.*it belongs on sd15") as refused:
        load_sweep([*small(tmp_path, *words), "train=false", given])
    assert str(refused.value).count("\n") == 0


def test_a_search_waits_for_no_adapters(root: Path) -> None:
    with pytest.raises(ConfigError, match="company=separate"):
        load_sweep(small(root, *WORDS, "search=tpe", "+axes.lr=[1e-3,1e-2]"))
