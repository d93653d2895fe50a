"""A sweep of two characters from the command to the export."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.adapters import ATTENTION, base_of, naming, write_adapter
from helpers.small import pictures, small, snapshot_bytes, sweep_of
from helpers.variants import first
from PIL import Image

from charsweep.__main__ import main
from charsweep.actions.export.chosen import find_chosen
from charsweep.actions.export.composed import Written, alone, code
from charsweep.actions.export.write import export
from charsweep.actions.run import run
from charsweep.actions.store_tools.inventory import Item, items_of
from charsweep.actions.stored_cell import stored_images
from charsweep.config import load_sweep
from charsweep.core.columns import RegionalPrompt, passes
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.specs import ComposedSpec
from charsweep.core.store import Store
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.composition import added_files
from charsweep.models.kohya import write_kohya
from charsweep.models.pipeline import quiet
from charsweep.results import CellResult, read_results
from charsweep.study import composed as study_composed

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
    plan = json.loads((root / "sweeps/small/sweep.json").read_text())["plan"]  # of both rounds
    assert [plan[name] for name in ("cells", "trajectories", "composed")] == [3, 3, 1]
    assert (plan["steps_asked"], plan["steps_needed"]) == (8, 4)
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


def test_the_store_s_tools_know_what_is_composed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy too, whose files have no links to each other."""
    item = composed_item(root)
    assert item.freed < item.size  # its adapters are those of others, by another name
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    there = composed_item(copy)
    assert there.freed == there.size
    words = small(copy, *WORDS)
    assert main(["action=check", f"root={copy}"]) == 0
    assert main(["action=gc", f"root={copy}"]) == 0
    assert "composed" not in capsys.readouterr().out
    (file,) = there.path.glob("step-*/1/*.safetensors")
    file.write_bytes(file.read_bytes()[::-1])
    assert main(["action=check", f"root={copy}"]) == 2
    assert "put together again, " in capsys.readouterr().out
    assert main(["action=check", "store.repair=true", f"root={copy}"]) == 0
    before = {path: path.stat().st_mtime_ns for path in copy.glob("sweeps/store/*/loss.csv")}
    run(load_sweep(words))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert results(copy)[1, 1].scores == results(root)[1, 1].scores


def composed_item(root: Path) -> Item:
    found = (one for one in items_of(Store(root)) if one.kind == "composed")
    return next(one for one in found if "strengths1-1-" in one.path.name)


def test_a_kill_between_training_and_putting_together_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = small(tmp_path, *WORDS, "train_steps=1", "metric=[score,together]")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study_composed, "compose", killed)
        with pytest.raises(KeyboardInterrupt):
            run(load_sweep(words))
    assert set(results(tmp_path)) == {(1, 0), (0, 1)}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweeps/store/*/loss.csv")}
    run(load_sweep(words))
    assert all(one.finished for one in results(tmp_path).values())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    together = results(tmp_path)[1, 1]
    assert (together.trainings, together.step) == (2, 1)
    alone = [results(tmp_path)[at].train_seconds for at in ((1, 0), (0, 1))]
    assert together.train_seconds == pytest.approx(sum(alone), abs=2e-3)


def test_an_export_holds_both_adapters_and_says_at_which_strength(root: Path) -> None:
    cell = results(root)[1, 1].cell
    folder = export(sweep_of(root, *WORDS, f"export.cell={cell}"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| UnicornGirl | 1 |" in card
    assert "in a picture of both each draws its own half" in card
    assert card.count(", 'UnicornGirl', 1.0),") == card.count(", 'ThunderBear', 1.0),") == 1
    for name in ("UnicornGirl", "ThunderBear"):
        assert any(file.endswith(".safetensors") for file in snapshot_bytes(folder / name))
    assert json.loads((folder / "export.json").read_text())["cell"] == cell
    prompt = "a picture of UnicornGirl on the left and ThunderBear on the right on the beach"
    assert yaml.safe_load(card.split("---\n")[1])["widget"][0]["text"] == prompt
    drawn = picture_by_card(folder)
    assert drawn.size == (96, 64)
    assert np.asarray(drawn).std() > 1


def picture_by_card(folder: Path) -> Image.Image:
    """What the card's own code draws in the exported folder."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    lines = code.replace("image = pipeline(", "torch.manual_seed(0)\nimage = pipeline(")
    with contextlib.chdir(folder), quiet():
        exec(lines, {})  # our own
        return Image.open("picture.png").convert("RGB")


@pytest.mark.parametrize("kind", first(1, ["lokr", "loha"]))
def test_the_card_s_code_puts_on_what_was_drawn(kind: str, tmp_path: Path) -> None:
    """Whatever kind of adapter it is, at strengths that are not 1, noted or scaled into files."""
    words = (
        *WORDS,
        f"method.adapter={kind}",
        "lr=3e-2",
        "other_strength=0.5",
        "metric=[score,together]",
        "sampler.regional=false",
    )
    run(load_sweep(small(tmp_path, *words)))
    cell = results(tmp_path)[1, 0.5].cell
    given = f"export.cell={cell}"
    pictures = [
        np.asarray(picture_by_card(export(sweep_of(tmp_path, *words, given, *more))), dtype=int)
        for more in ((), ("export.strength=bake",))
    ]
    store = Store(tmp_path)
    images = stored_images(results(tmp_path)[1, 0.5], store)
    base = base_of("sdxl")
    prompt = "a picture of UnicornGirl on the left and ThunderBear on the right on the beach"
    with base.composed(added_files(images.snapshot.source, store.snapshot(images.snapshot))):
        torch.manual_seed(0)
        (wanted,) = base.pipeline(
            prompt, num_inference_steps=images.inference_steps,
            guidance_scale=images.guidance_scale, height=64, width=96,
        ).images  # fmt: skip
    for drawn in pictures:
        assert np.abs(drawn - np.asarray(wanted.convert("RGB"))).max() <= 3


@pytest.mark.parametrize("company", ["separate", "together"])
def test_the_card_s_code_draws_each_half_by_itself(company: str, tmp_path: Path) -> None:
    """By its own adapter, where there are two."""
    words = (*WORDS, "sampler.regional=true", f"company={company}", "lr=3e-2",
             "metric=[score,together]")  # fmt: skip
    words += ("other_strength=0.5",) if company == "separate" else ("pack=1",)
    run(load_sweep(small(tmp_path, *words)))
    cells = read_results(tmp_path / "sweeps" / "small" / "cells.jsonl").values()
    cell = next(one for one in cells if one.values.get("other_strength", 0.5) == 0.5
                and one.values.get("strength", 1) == 1)  # fmt: skip
    folder = export(sweep_of(tmp_path, *words, f"export.cell={cell.cell}"))
    drawn = np.asarray(picture_by_card(folder), dtype=int)
    store = Store(tmp_path)
    images = stored_images(cell, store)
    whole = PROMPT.format(subject="UnicornGirl", other="ThunderBear")
    halves = [PROMPT.format(subject=who, other=who) for who in ("UnicornGirl", "ThunderBear")]
    prompt = str(RegionalPrompt(whole, tuple(halves)))
    wide = replace(images, prompts=(prompt,), size=(96, 64), batch_width=1)
    base, source = base_of("sdxl"), images.snapshot.source
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if isinstance(source, ComposedSpec):
            files = added_files(source, store.snapshot(images.snapshot))
            called, choose = source.called, stack.enter_context(base.apart(files))
        else:
            stack.enter_context(base.with_snapshot(store.snapshot(images.snapshot)))
            called, choose = (), lambda drawer: None
        (wanted,) = base.family.draw_in_passes(
            base.pipeline, wide, passes([prompt], called), [torch.Generator().manual_seed(0)],
            choose,
        )  # fmt: skip
    assert np.abs(drawn - (wanted * 255).round()).mean() <= 1


def test_no_code_is_given_that_would_draw_otherwise(tmp_path: Path) -> None:
    words = (*WORDS, "method.adapter=dora", "train_steps=1", "metric=[score,together]")
    run(load_sweep(small(tmp_path, *words)))
    found = results(tmp_path)[1, 1].cell
    folder = export(sweep_of(tmp_path, *words, f"export.cell={found}"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "```python" not in card
    assert "no code is given; charsweep itself draws with them" in card
    assert "There are not both files for ComfyUI and A1111: DoRA" in card


def files(root: Path) -> list[Path]:
    """The adapters of both, as files."""
    found = {one.trajectory: one for one in results(root).values()}
    steps = [root / "sweeps/store" / found[name].trajectory / "step-000002" for name in found]
    return [step / ADAPTER_FILE for step in steps if (step / ADAPTER_FILE).exists()]


@pytest.mark.parametrize("triggers", [("sks", "SKS"), ("bear", "a blue bear"), ("ThunderBear", "")])
def test_adapters_draw_apart_only_where_triggers_tell_them_apart(
    triggers: tuple[str, str], root: Path, tmp_path: Path
) -> None:
    words = [word for word in WORDS if not word.startswith(("train_steps", "lr"))]
    given = zip(files(root), triggers, strict=True)
    own = [f"{{path: {path}, trigger: {told or 'null'}}}" for path, told in given]
    words = [*small(tmp_path, *words), "train=false", f"adapters=[{','.join(own)}]"]
    with pytest.raises(ConfigError, match="give adapters triggers that are apart"):
        load_sweep(words)
    load_sweep([*words, "sampler.regional=false"])


def test_the_card_of_one_that_draws_apart_puts_that_one_on(root: Path) -> None:
    """Where no pictures of both were asked for."""
    cell = results(root)[1, 1].cell
    chosen = find_chosen(sweep_of(root, *WORDS, f"export.cell={cell}"), Store(root))
    source = chosen.images.snapshot.source
    assert isinstance(source, ComposedSpec)
    called = zip(source.components, ("UnicornGirl", "ThunderBear"), strict=True)
    parts = tuple(replace(one, called=name) for one, name in called)
    snapshot = replace(chosen.images.snapshot, source=replace(source, components=parts))
    chosen = replace(chosen, images=replace(chosen.images, snapshot=snapshot), both=None)
    adapters = [
        Written(one, name, name, "lora", f"{name}.safetensors", None, None)
        for one, name in zip(alone(chosen), ("one", "two"), strict=True)
    ]
    assert "pipeline.set_adapters('one', 1.0)\n" in str(code(chosen, adapters))


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
    assert {path.name for path in folder.glob("n?/*")} == {"n0.safetensors", "n1.safetensors"}
    assert picture_by_card(folder).size == (96, 64)
    header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert "license" not in header  # which is that of their authors, not of the base
    for at, name in (((1, 0), "n0"), ((0, 1), "n1")):
        alone = export(load_sweep([*words, f"export.cell={found[at].cell}"]))
        assert (alone / f"{name}.safetensors").exists()
    pushed = load_sweep([*words, f"export.cell={found[1, 1].cell}", "export.push=me/two"])
    with pytest.raises(ConfigError, match=r"n0 \+ n1 was made elsewhere; see under which licence"):
        export(pushed, hub=object())
    with pytest.raises(ConfigError, match="adapters: 1 are given, and UnicornGirl and ThunderBear"):
        load_sweep([*words[:-1], f"adapters=[{own[0]}]"])


def test_a_file_that_changes_meanwhile_is_not_taken_for_the_other(
    root: Path, tmp_path: Path
) -> None:
    """Nor is the order of two that of their training steps."""
    one, other = files(root)
    given = [shutil.copy(one, tmp_path / "x-000020.safetensors"),
             shutil.copy(other, tmp_path / "x-000010.safetensors")]  # fmt: skip
    words = [word for word in WORDS if not word.startswith(("train_steps", "lr"))]
    words = [*small(tmp_path, *words), "train=false", f"adapters=[{','.join(map(str, given))}]"]
    sweep = load_sweep(words)
    alone = next(
        c for c in sweep.cells if (c.values["strength"], c.values["other_strength"]) == (1, 0)
    )
    assert sweep.adapters[alone.source.key].path == tmp_path / "x-000020.safetensors"
    shutil.copy(other, given[0])
    with pytest.raises(ModelsError, match="has changed since this command was begun"):
        run(sweep)
    assert not list(tmp_path.glob("sweeps/store/adapter-*/step-*"))


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
