"""Models, character and exam as axes: planned, told apart, refused where they change no image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from helpers.small import small, sweep_of
from safetensors.numpy import load_file, save_file

from charsweep.config import load_sweep
from charsweep.core.cells import with_truth
from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.models import embedded
from charsweep.plan import Scoring, plan_work
from charsweep.plan.describe import describe_plan, reckon
from charsweep.results.cells import judged_by
from charsweep.results.unlike import groups
from charsweep.study import check

FOLDER = ("character=folder", "character.identifier=Mia", "character.class_noun=girl")
OTHERS = ["a picture of {subject} sitting", "a picture of {subject} at night"]


@pytest.fixture
def mia(tmp_path: Path) -> Path:
    """Four of the six drawings, in a folder of their own."""
    folder = tmp_path / "mia"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", folder)
    for path in [*folder.glob("05*"), *folder.glob("06*"), *folder.glob("*.txt")]:
        path.unlink(missing_ok=True)
    return folder


@pytest.fixture
def other_base(tmp_path: Path) -> Path:
    """The embedded SDXL-type base with one number changed."""
    folder = tmp_path / "other_base"
    shutil.copytree(embedded.FOLDER / "weights" / "sdxl", folder)
    (file,) = (folder / "unet").glob("*.safetensors")
    tensors = load_file(file)
    tensors[min(tensors)].flat[0] += 1
    save_file(tensors, file)
    return folder


def test_characters_are_an_axis(mia: Path, tmp_path: Path) -> None:
    words = (f"+axes.character.images=[embedded:unicorn_girl,{mia}]", *FOLDER)
    sweep = sweep_of(tmp_path, *words)  # no character.images besides: the axis gives it
    assert [len(cell.trajectory.character.digests) for cell in sweep.cells] == [6, 4]
    assert [len(one.paths) for one in sweep.variants.characters] == [6, 4]
    first, second = (cell.trajectory.character for cell in sweep.cells)
    opened = sweep.drawings.open(second.digests)
    assert [image.size for image in opened] == [
        image.size for image in sweep.drawings.open(first.digests[:4])
    ]
    assert len(groups(judged_by(cell) for cell in sweep.cells)) == 2
    plan = plan_work(sweep.cells, Store(tmp_path))
    assert len(plan.packs) == 2  # no trial of one shares a pass with the other's
    text = describe_plan(sweep, reckon(sweep, Store(tmp_path), plan))
    assert "character     Mia (unicorn_girl): 6 drawings, 6 captions" in text
    assert "character     Mia (mia): 4 drawings, 0 captions" in text


def test_what_an_untaught_base_draws_is_drawn_once_and_scored_for_each(
    mia: Path, tmp_path: Path
) -> None:
    words = (f"+axes.character.images=[embedded:unicorn_girl,{mia}]", *FOLDER, "+axes.lr=[1,2]")
    plan = plan_work(sweep_of(tmp_path, *words).cells, Store(tmp_path))
    by_key: dict[str, list[Scoring]] = {}
    for scoring in plan.references:
        by_key.setdefault(scoring.images.key, []).append(scoring)
    assert len(by_key) == 2  # with the identifier, which is the same, and with the class noun
    for found in by_key.values():
        assert [scoring.draw for scoring in found] == [True, False]
        first, second = ({score.key for score in scoring.scores} for scoring in found)
        assert len(first) == len(second) > 0
        assert not first & second


def test_files_of_a_group_are_an_axis(mia: Path, tmp_path: Path) -> None:
    words = ("+axes.character=[unicorn_girl,folder]", "+axes.exam={seeds:[[0],[1]]}")
    with pytest.raises(ConfigError, match=r"character\.images is not set"):
        sweep_of(tmp_path, words[0])
    own = tmp_path / "conf" / "character"
    own.mkdir(parents=True)
    text = f"defaults: [folder]\nname: mia\nimages: {mia}\nidentifier: Mia\nclass_noun: girl\n"
    (own / "mia.yaml").write_text(text)
    words = ("+axes.character=[unicorn_girl,mia]", words[1], f"--config-dir={own.parent}")
    sweep = sweep_of(tmp_path, *words)
    values = [(cell.values["character"], cell.values["exam.seeds"]) for cell in sweep.cells]
    assert values == [(who, seeds) for who in ("unicorn_girl", "mia") for seeds in ("[0]", "[1]")]
    assert {cell.images.prompts[0].split()[3] for cell in sweep.cells} == {"UnicornGirl", "Mia"}
    assert len(groups(judged_by(cell) for cell in sweep.cells)) == 4


def test_an_exam_has_its_own_true_pictures(tmp_path: Path) -> None:
    sweep = load_sweep([f"root={tmp_path}", f"+axes.exam.prompts=[null,{OTHERS}]".replace(
        "null", str(sweep_of(tmp_path).settings.exam.prompts)), "exam=quick"])  # fmt: skip
    assert [bool(cell.exam.truth) for cell in sweep.cells] == [False, False]
    sweep = load_sweep([f"root={tmp_path}", "+axes.exam.seeds=[[0],[1,2]]", "exam=quick"])
    judges = with_truth(sweep.cells)
    assert len(judges) == 1  # the same prompts: the same true pictures
    assert judges[0][0].exam.truth == judges[0][1].snapshot.source.digests  # type: ignore[union-attr]


def test_a_base_is_an_axis_and_all_is_one_exam(other_base: Path, tmp_path: Path) -> None:
    axis = f"+axes.models.bases.sdxl.path=[embedded:weights/sdxl,{other_base}]"
    sweep = sweep_of(tmp_path, axis, "+axes.lr=[1e-3,1e-4]", "method=lora")
    assert len(sweep.bases) == 2
    labels = list(dict.fromkeys(cell.base_label for cell in sweep.cells))
    assert labels == ["sdxl (embedded:weights/sdxl)", f"sdxl ({other_base})"]
    for cell in sweep.cells:
        assert cell.trajectory.base is not None
        weights = sweep.bases[cell.trajectory.base.key]
        assert weights.digest == cell.trajectory.base.digest
    assert len(groups(judged_by(cell) for cell in sweep.cells)) == 1
    own = sweep_of(tmp_path, "method=lora").cells[0]
    assert own.base_label == "sdxl"
    assert own.trajectory.key == sweep.cells[0].trajectory.key  # a path is in no key


def test_an_axis_of_another_base_makes_no_cells_twice(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "+axes.models.bases.sd15.clip_skip=[1,2]", "method=lora")
    assert [cell.values.get("models.bases.sd15.clip_skip") for cell in sweep.cells] == [None]


def test_held_out_drawings_are_an_axis(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "+axes.character.held_out=[null,1,2]")
    assert [len(cell.trajectory.character.digests) for cell in sweep.cells] == [6, 5, 4]
    assert [len(cell.exam.held_out) for cell in sweep.cells] == [0, 1, 2]


REMEDY = re.compile(r"as in name=NAME (\S+)=VALUE")


@pytest.mark.parametrize(
    ("axis", "first"),
    [
        ("references=[whole,subject]", "whole"),
        ("metric.quality_ratio.dino=[0.5,0.6]", None),
        ("models.encoders.dino.crop=[64,32]", "64"),
        ("character.truth=[null,embedded:unicorn_girl_exam]", "null"),
    ],
)
def test_what_only_judges_is_no_axis(axis: str, first: str | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only judges them otherwise") as refused:
        sweep_of(tmp_path, f"+axes.{axis}")
    found = REMEDY.search(str(refused.value))
    assert found is not None
    assert found[1] == axis.partition("=")[0]
    if first:
        assert load_sweep([*small(tmp_path, f"{found[1]}={first}"), "name=other"]).cells


def test_two_cells_of_the_same_images_are_refused(mia: Path, tmp_path: Path) -> None:
    axis = f"+axes.character.held_out=[null,{mia}]"
    with pytest.raises(ConfigError, match="draws the same images as another") as refused:
        sweep_of(tmp_path, axis)
    assert f"character.held_out={mia}" in str(refused.value)
    assert load_sweep([*small(tmp_path, f"character.held_out={mia}"), "name=other"]).cells


def test_a_search_compares_all_its_trials(mia: Path, other_base: Path, tmp_path: Path) -> None:
    search = ("search=tpe", "+axes.lr={low:1e-4,high:1e-2,log:true}")
    characters = f"+axes.character.images=[embedded:unicorn_girl,{mia}]"
    with pytest.raises(ConfigError, match=r"axes\.character\.images: changes what scores"):
        check(sweep_of(tmp_path, *search, characters, *FOLDER))
    check(sweep_of(tmp_path, *FOLDER, characters, "+axes.lr=[1e-3,1e-4]"))  # its remedy: a grid
    bases = f"+axes.models.bases.sdxl.path=[embedded:weights/sdxl,{other_base}]"
    sweep = sweep_of(tmp_path, *search, bases)
    check(sweep)
    chosen = sweep.cell_at({"lr": 1e-3, "models.bases.sdxl.path": str(other_base)})
    assert chosen.trajectory.base is not None
    assert chosen.trajectory.base.key in sweep.bases


def test_parts_may_have_exams_of_their_own(mia: Path, tmp_path: Path) -> None:
    part = f"{{character:folder,character.images:{mia},character.identifier:Mia}}"
    sweep = sweep_of(tmp_path, f"parts={{a:{{lr:1e-3}},b:{part}}}")
    assert [cell.values["part"] for cell in sweep.cells] == ["a", "b"]
    assert len(groups(judged_by(cell) for cell in sweep.cells)) == 2
    for name in ("character of part=a", "character of part=b"):
        assert name in sweep.meaning


def test_parts_that_hold_another_value_are_told_apart(tmp_path: Path) -> None:
    """One rate at two ranks is two settings, not two seeds of one."""
    sweep = sweep_of(tmp_path, "parts={low:{method.rank:2},high:{method.rank:8}}")
    assert [cell.values["part"] for cell in sweep.cells] == ["low", "high"]
    plain = sweep_of(tmp_path, "parts={low:{lr:1e-3},high:{lr:1e-4}}")
    assert all("part" not in cell.values for cell in plain.cells)


def test_the_meaning_of_a_study_holds_each_of_its_characters(mia: Path, tmp_path: Path) -> None:
    characters = f"+axes.character.images=[embedded:unicorn_girl,{mia}]"
    both = sweep_of(tmp_path, characters, *FOLDER).meaning
    alone = sweep_of(tmp_path, f"character.images={mia}", *FOLDER).meaning
    assert both[f"character of character.images={mia}"] == alone["character"]
    assert both["exam"] == alone["exam"]  # on which all agree
    (mia / "01.png").write_bytes((mia / "02.png").read_bytes())
    changed = sweep_of(tmp_path, characters, *FOLDER).meaning
    differing = {name for name in both if both[name] != changed[name]}
    assert differing == {
        f"{name} of character.images={mia}" for name in ("character", "references")
    }
