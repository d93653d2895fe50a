"""check, gc, show and why on a small store: damage is found, mended by repair, made again alike."""

from __future__ import annotations

import fcntl
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small import execute, loaded_after, pictures, small, snapshot_bytes, sweep_of

from charsweep.__main__ import main
from charsweep.actions.sweep_record import needs, new_record, now
from charsweep.core.store.files import machine, write_json
from charsweep.results import write_results

WORDS = ["train_steps=4", "+axes.lr=[1e-3,1e-4]"]
COLOUR = ["metric=[score,dino,colour]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two cells that has ended, as far as the store and its folder tell."""
    root = tmp_path_factory.mktemp("kept")
    sweep, store, results = execute(root, *WORDS, *COLOUR)
    sweep.folder.mkdir()
    write_json(sweep.folder / "sweep.json", {**new_record(sweep, store, {}), "finished": now()})
    write_results(sweep.folder / "cells.jsonl", results)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def store(root: Path) -> Path:
    return root / "sweeps" / "store"


def one(root: Path, pattern: str) -> Path:
    return sorted(store(root).glob(pattern))[0]


def act(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main([*words, f"root={root}"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


# -- check -----------------------------------------------------------------------------------------


def test_a_sound_store_passes_and_nothing_is_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    code, out, _ = act(root, capsys, "action=check")
    assert code == 0
    assert "0 damaged" in out
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


LORA = "dreambooth_lora-*1e-03*"
BROKEN: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "weights": (f"{LORA}/step-000004/*.safetensors", flip, "steps 1 to 4 trained again"),
    "picture": (f"{LORA}/step-*/*--*/002.png", flip, "4 pictures drawn and scored again"),
    "picture gone": (f"{LORA}/step-*/*--*/002.png", Path.unlink, "4 pictures drawn"),
    "manifest": (f"{LORA}/step-*/*--*/images.json", flip, "drawn and scored again"),
    "score": (f"{LORA}/step-*/*--*/scores/dino--*.json", flip, "scored again"),
    "spec": (f"{LORA}/spec.json", flip, "written again from a picture set's manifest"),
    "state": (f"{LORA}/resume/step-*/state.safetensors", flip, "begins at step 0"),
    "curve": (f"{LORA}/loss.csv", lambda path: path.write_text("step,lo"), "put it back"),
    "record": (f"{LORA}/provenance.json", lambda path: path.write_text("{"), "no longer known"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damage_is_found_and_repaired(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern, damage, consequence = BROKEN[name]
    path = one(root, pattern)
    damage(path)
    code, out, err = act(root, capsys, "action=check")
    assert code == 2
    assert "StoreError: 1 damaged" in err
    assert "store.repair=true" in err
    assert consequence in out
    assert act(root, capsys, "action=check", "store.repair=true")[0] == 0
    code, out, _ = act(root, capsys, "action=check")
    assert "1 damaged" not in out
    assert code == (2 if "missing" in out else 0)  # a finished cell's pictures are missed


def test_what_repair_removed_is_made_again_alike(
    made: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(one(root, f"{LORA}/step-000004/*.safetensors"))
    flip(one(root, "*1e-04*/step-*/*--*/001.png"))
    act(root, capsys, "action=check", "store.repair=true")
    execute(root, *WORDS, *COLOUR)
    assert act(root, capsys, "action=check")[0] == 0
    for pattern in (f"{LORA}/step-000004", "*1e-04*/step-000004"):
        folder, before = one(root, pattern), one(made, pattern)
        images = [next(path.glob("*--*")) for path in (folder, before)]
        assert pictures(images[0]) == pictures(images[1]) != {}
        weights = {name: data for name, data in snapshot_bytes(folder).items() if "--" not in name}
        assert weights.items() <= snapshot_bytes(before).items()


def test_any_changed_byte_of_the_store_is_found(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [p for p in sorted(store(root).rglob("*")) if p.is_file() and p.stat().st_size]
    without = ("speeds.json", "loss.csv", "provenance.json", ".lock")  # measured and noted
    chance = random.Random(0)
    for path in chance.sample([p for p in files if p.name not in without], 6):
        flip(path)
        assert act(root, capsys, "action=check")[0] == 2, path
        flip(path)
    assert act(root, capsys, "action=check")[0] == 0


def test_what_is_foreign_is_named_and_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = [store(root) / "notes.txt", one(root, f"{LORA}/step-000004") / "extra.bin"]
    strange.append(next(one(root, f"{LORA}/step-000004").glob("*--*")) / "004.png")
    for path in strange:
        path.write_text("mine")
    left = one(root, LORA) / f".step-000008.99999999-{'-'.join(machine())}.tmp"
    left.mkdir()
    code, out, _ = act(root, capsys, "action=check", "store.repair=true")
    assert code == 0
    assert all(str(path.relative_to(store(root))) in out for path in [*strange, left])
    assert all(path.exists() for path in strange)
    assert not left.exists()


def test_a_result_in_the_place_of_another_is_found(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every digest is right, and the pictures are still not those that the name promises."""
    one_set, other = one(root, f"{LORA}/step-*/*--*"), one(root, "*1e-04*/step-*/*--*")
    shutil.rmtree(one_set)
    shutil.copytree(other, one_set)
    code, out, _ = act(root, capsys, "action=check")
    assert code == 2
    assert f"its spec is that of {other.name[-12:]}" in out


def test_finished_pictures_that_are_gone_are_missed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(one(root, f"{LORA}/step-*"))
    code, out, err = act(root, capsys, "action=check")
    assert code == 2
    assert "missing" in out
    assert "by sweep small" in out
    assert "0 damaged and 1 missing" in err


# -- gc --------------------------------------------------------------------------------------------


def test_gc_keeps_what_a_sweep_needs_and_lists_first(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = store(root) / "weights" / "random-sd15--0123456789abcdef"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(2_500_000))
    before = sorted(store(root).rglob("*"))
    code, out, _ = act(root, capsys, "action=gc")
    assert code == 0
    assert sorted(store(root).rglob("*")) == before
    assert "2.5 MB  made weights" in out
    assert out.count("resume state") == 2
    assert "no sweep refers to" not in out
    assert act(root, capsys, "action=gc", "store.remove=true")[0] == 0
    assert not made.exists()
    assert not list(store(root).glob("*/resume"))
    assert act(root, capsys, "action=check")[0] == 0
    assert "nothing to remove" in act(root, capsys, "action=gc")[1]


def test_gc_removes_what_only_a_deleted_sweep_asked_for(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, store_, results = execute(
        root, "name=other", *WORDS[:1], *COLOUR, "seed=5", "exam.seeds=[3]"
    )
    wanted = store_.images(sweep.cells[0].images)
    write_other(sweep.folder, new_record(sweep, store_, {}), results)
    assert wanted.name not in act(root, capsys, "action=gc")[1]
    shutil.rmtree(sweep.folder)
    out = act(root, capsys, "action=gc", "store.remove=true")[1]
    assert store_.source(sweep.cells[0].trajectory).name in out
    assert not wanted.exists()
    base = store_.images(sweep.cells[0].untaught_set)  # in a folder that the other sweep needs too
    assert not base.exists()
    assert base.parent.is_dir()
    assert act(root, capsys, "action=check")[0] == 0


def write_other(folder: Path, record: dict[str, object], results: list[object]) -> None:
    folder.mkdir()
    write_json(folder / "sweep.json", record)
    write_results(folder / "cells.jsonl", results)


def test_gc_keeps_all_that_an_unfinished_sweep_has_begun(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "sweeps" / "small"
    record = json.loads((folder / "sweep.json").read_text())
    write_json(folder / "sweep.json", {**record, "finished": None})
    (folder / "cells.jsonl").unlink()
    assert "nothing to remove" in act(root, capsys, "action=gc", "store.remove=true")[1]
    assert list(store(root).glob("*/resume/step-*"))


def test_what_a_search_has_begun_stays_needed_and_what_a_grid_asks_no_more_does_not(
    tmp_path: Path,
) -> None:
    begun = {"sources": ["0123456789ab"]}
    axes = "+axes={lr: [1e-3, 1e-2]}"
    search = sweep_of(tmp_path, "search=tpe", "search.trials=4", axes)
    assert "0123456789ab" in needs(search, begun)["sources"]
    assert set(needs(search, {})["sources"]) < set(needs(search, begun)["sources"])
    assert needs(sweep_of(tmp_path, axes), begun) == needs(sweep_of(tmp_path, axes), {})


def test_nothing_is_removed_while_a_sweep_runs(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (root / "sweeps" / "small" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in (["action=gc", "store.remove=true"], ["action=check", "store.repair=true"]):
            code, _, err = act(root, capsys, *words)
            assert code == 2
            assert "sweep small is running" in err
    assert list(store(root).glob("*/resume/step-*"))
    with (one(root, LORA) / ".lock").open("w") as lock:  # as a story holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use, and left" in act(root, capsys, "action=gc", "store.remove=true")[1]
    assert [path.parents[1] for path in store(root).glob("*/resume/step-*")] == [one(root, LORA)]


# -- show and why ----------------------------------------------------------------------------------


def test_show_tells_what_a_cell_is_and_comes_from(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = one(root, f"{LORA}/step-*/*--*")
    key, trajectory = images.name[-12:], one(root, LORA).name[-12:]
    code, out, _ = act(root, capsys, "action=show", key)
    assert code == 0
    for said in (key, trajectory, "small", "step 4", "inference_steps", "torch"):
        assert said in out
    value = json.loads(next((images / "scores").glob("dino--*")).read_text())["value"]
    assert f"{value:.4f}" in out
    out = act(root, capsys, "action=show", trajectory)[1]
    assert "learning_rate             0.001" in out
    assert key in out


def test_why_names_the_fields_that_differ(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [one(root, f"*{rate}*").name[-12:] for rate in ("1e-03", "1e-04")]
    code, out, _ = act(root, capsys, "action=why", *keys)
    assert code == 0
    assert out.splitlines()[1:] == ["  learning_rate: 0.001 is not 0.0001"]
    images = [one(root, f"*{rate}*/step-*/*--*").name[-12:] for rate in ("1e-03", "1e-04")]
    out = act(root, capsys, "action=why", *images)[1]
    assert out.splitlines()[1:] == ["  snapshot.source.learning_rate: 0.001 is not 0.0001"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["action=show"], "one key"),
        (["action=show", "000000000000"], "store.keys=[000000000000]"),
        (["action=show", "12e4"], "store.keys=[12e4]"),  # not a number
        (["action=show", "xyz"], "xyz"),
        (["action=why", "ab"], "two keys"),
        (["action=plan", "store.repair=true"], "repair"),
        (["store.remove=true"], "remove"),
        (["3f9ac1"], "3f9ac1: stands without a name"),
    ],
)
def test_a_wrong_key_is_one_message(
    words: list[str], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = act(root, capsys, *words)
    assert code == 2
    assert out == ""
    assert said in err


def test_an_ambiguous_key_names_what_it_may_mean(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [path.stem for path in store(root).rglob("*--*")]
    firsts = [name[-12:][0] for name in names]
    common = max(firsts, key=firsts.count)
    code, _, err = act(root, capsys, "action=show", common)
    assert code == 2
    assert "give more of its digits" in err


def test_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["check"], ["gc"], ["show", "ab"], ["why", "ab", "cd"]):
        code, _, err = act(tmp_path, capsys, f"action={words[0]}", *words[1:])
        assert code == 2
        assert "there is no store" in err
    assert not list(tmp_path.iterdir())


def test_keeping_imports_neither_torch_nor_mlflow(root: Path) -> None:
    words = [*small(root, "action=check")]
    loaded = loaded_after(f"from charsweep.__main__ import main; main({words!r})")
    assert not {"torch", "mlflow", "optuna", "diffusers"} & loaded
