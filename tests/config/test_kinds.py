"""An object or a place beside a character: what is taught and asked of it, and what may not be."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.config import Sweep, load_sweep
from charsweep.core.cells import Cell, ExamPart
from charsweep.core.columns import regional
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical
from charsweep.core.specs import TrajectorySpec, revived
from charsweep.core.store import Store
from charsweep.models.embedded import FOLDER
from charsweep.plan import plan_work
from charsweep.plan.describe import describe_plan, reckon
from charsweep.plan.memory import Work

SHE_IN_IT = "characters=[unicorn_girl,candyland]"
SHE_WITH_IT = "characters=[unicorn_girl,star_kite]"
PLACE, OBJECT = (SHE_IN_IT, "exam=place"), (SHE_WITH_IT, "exam=object")


def together(root: Path, *words: str) -> tuple[Sweep, Cell]:
    """A sweep of one adapter, and its cell."""
    sweep = sweep_of(root, *words, "company=together")
    (cell,) = sweep.cells
    return sweep, cell


def part(cell: Cell, name: str) -> ExamPart:
    return next(one for one in cell.parts if one.name == name)


def test_a_second_character_may_be_asked_for_by_prompts_of_its_own(tmp_path: Path) -> None:
    own = "+exam.parts.other={prompts: ['a picture of {other} asleep'], seeds: [7]}"
    both = ("characters=[unicorn_girl,thunder_bear]", "exam=company")
    _, cell = together(tmp_path, *both, own)
    asked = part(cell, "other").images
    assert (asked.prompts, asked.seeds) == (("a picture of ThunderBear asleep",), (7,))
    (leak,) = part(cell, "others of the other").metrics  # as with the prompts of the first
    assert leak.name == "other_leak"


# -- a place ---------------------------------------------------------------------------------------


def test_somebody_is_put_in_a_place_that_has_no_masks(tmp_path: Path) -> None:
    sweep, cell = together(tmp_path, *PLACE)
    spec, company = cell.trajectory, cell.trajectory.company
    assert company is not None
    assert (company.other.identifier, company.other.kind) == ("Candyland", "place")
    assert [len(masks) for masks in company.cut] == [6]  # hers alone
    assert company.composes
    assert not Work(spec).is_wide
    assert revived(TrajectorySpec, canonical(spec)).key == spec.key
    store = Store(tmp_path)
    text = describe_plan(sweep, reckon(sweep, store, plan_work(sweep.cells, store)))
    assert "  place         Candyland: 6 drawings, 6 captions\n" in text
    assert "show both: UnicornGirl, cut out by masks, on the drawings of Candyland\n" in text


def test_a_place_is_asked_for_by_prompts_of_its_own(tmp_path: Path) -> None:
    _, cell = together(tmp_path, *PLACE)
    other, both = part(cell, "other"), part(cell, "together")
    assert "a picture of a bear sitting in Candyland" in other.images.prompts
    assert "a picture of a bear sitting in a land" in other.untaught.prompts
    assert other.exam.prompts == other.untaught.prompts
    assert not set(other.images.prompts) & set(cell.images.prompts)
    assert "a picture of UnicornGirl jumping in Candyland at night" in both.images.prompts
    assert "a picture of a girl jumping in a land at night" in both.untaught.prompts
    assert both.images.pixels == other.images.pixels == (64, 64)
    assert {one.kind for one in (other.exam, both.exam)} == {"place"}
    assert other.exam.other == both.exam.other == other.exam.references  # the place's drawings
    assert both.exam.references == cell.exam.references  # hers
    assert cell.exam.kind == "character"
    assert {one.name for one in other.metrics} == {"other_score", "other_identity", "other_prompt"}
    assert {one.name for one in both.metrics} == {"together", "both", "missing"}
    assert "others of the other" not in {one.name for one in cell.parts}  # who would they be?
    assert cell.worst_of == ("first_score", "other_score", "together")


def test_results_tell_nothing_that_makes_no_sense_of_a_place(tmp_path: Path) -> None:
    settings = sweep_of(tmp_path, *PLACE).settings
    assert {"together", "both", "missing"} <= set(settings.reported)
    assert not {"swapped", "merged", "nearest"} & set(settings.reported)
    settings = sweep_of(tmp_path, *OBJECT).settings
    assert {"together", "both", "swapped", "missing"} <= set(settings.reported)
    assert not {"merged", "nearest"} & set(settings.reported)


def test_captions_of_what_is_composed_are_no_prompts_of_the_exam(tmp_path: Path) -> None:
    from charsweep.character import captions_of_both

    for words in (PLACE, OBJECT):
        _, cell = together(tmp_path, *words)
        company = cell.trajectory.company
        assert company is not None
        captions = captions_of_both("UnicornGirl", company.other)
        asked = [prompt for one in cell.parts for prompt in one.images.prompts]
        assert captions
        assert not set(captions) & {*asked, *cell.images.prompts}


# -- an object -------------------------------------------------------------------------------------


def test_an_object_stands_beside_somebody(tmp_path: Path) -> None:
    _, cell = together(tmp_path, *OBJECT)
    company = cell.trajectory.company
    assert company is not None
    assert [len(masks) for masks in company.cut] == [6, 6]
    assert Work(cell.trajectory).is_wide
    both, other = part(cell, "together"), part(cell, "other")
    assert both.images.pixels == (96, 64)
    assert both.exam.left[:3] == ("subject", "other", None)
    assert both.exam.kind == "object"
    assert "a picture of a kite in a forest" in other.untaught.prompts
    assert other.exam.other == ()  # alone it is judged as anybody is


def test_halves_may_have_words_of_their_own_beside_an_object(tmp_path: Path) -> None:
    _, cell = together(tmp_path, *OBJECT, "sampler.regional=true")
    told = [regional(prompt).columns for prompt in part(cell, "together").images.prompts]
    assert "a picture of StarKite on the beach" in told[0]


# -- either ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [PLACE, OBJECT], ids=["place", "object"])
def test_an_adapter_of_each_is_that_of_a_sweep_of_each(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    cells = sweep_of(tmp_path, *words).cells
    strengths = [(cell.values["strength"], cell.values["other_strength"]) for cell in cells]
    assert strengths == [(1, 1), (1, 0), (0, 1)]
    (alone,) = sweep_of(tmp_path).cells
    assert cells[1].key == alone.key
    assert cells[2].trajectory.character.kind in words[1]
    assert cells[2].images.prompts == cells[1].images.prompts  # the exam itself is the first one's


@pytest.mark.parametrize(("name", "words"), [("place", PLACE), ("object", OBJECT)])
def test_true_pictures_ship_of_what_is_asked(
    name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    told = (FOLDER / f"{name}_exam" / "prompts.txt").read_text(encoding="utf-8").splitlines()
    settings = sweep_of(tmp_path, *words).settings
    assert settings.exam.parts is not None
    prompts = settings.exam.parts["together"].prompts
    assert [regional(prompt).whole for prompt in prompts] == told
    assert len(list((FOLDER / f"{name}_exam").glob("*.png"))) == len(told)


def test_kinds_change_no_key_of_characters(tmp_path: Path) -> None:
    _, cell = together(tmp_path, "characters=[unicorn_girl,thunder_bear]", "exam=company")
    assert "kind" not in canonical(cell.trajectory)["company"]["other"]
    assert "kind" not in canonical(cell.trajectory)["character"]
    assert all("kind" not in canonical(one.exam) for one in cell.parts)


def test_references_may_be_masked_of_who_is_in_a_place(tmp_path: Path) -> None:
    girl = "{images:'embedded:unicorn_girl',identifier:UnicornGirl,class_noun:girl,masks:file}"
    words = (f"characters=[{girl},candyland]", "exam=place", "references=subject")
    _, cell = together(tmp_path, *words)
    assert all("/" in one for one in cell.exam.references)
    assert not any("/" in one for one in part(cell, "other").exam.references)


MINE = "{kind: place, images: 'embedded:candyland', identifier: Shedland, class_noun: shed}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["character=candyland"], "character=candyland: Candyland is a place, and whom an exam "
         "asks for first is a character; teach it beside one, as in "
         "characters=[unicorn_girl,candyland] exam=place"),
        (["characters=[star_kite,thunder_bear]", "exam=object"], "StarKite is an object, and whom "
         "an exam asks for first is a character; swap them, as in "
         "characters=[thunder_bear,star_kite] exam=object"),
        ([SHE_IN_IT, "exam=company"], "exam=company: asks for a character beside UnicornGirl, and "
         "Candyland is a place; set exam=place"),
        ([SHE_IN_IT, "exam=positions"], "exam=positions: asks for a character beside Unicorn"),
        ([SHE_IN_IT, "exam=object"], "asks for an object beside UnicornGirl, and Candyland is a p"),
        (["characters=[unicorn_girl,thunder_bear]", "exam=place"], "exam=place: asks for a place "
         "beside UnicornGirl, and ThunderBear is a character; set exam=company"),
        ([*PLACE, "sampler.regional=true"], "Candyland is a place, which has no half; set it to n"),
        ([*PLACE, "objectives=[swapped]"], "objectives.swapped: says nothing of a character with a "
         "place; choose another, as together"),
        ([*PLACE, "exam.parts.other.prompts=['a picture of {subject}']"], "asks for {subject} too, "
         "and that part is of {other} alone; write it into exam.parts.together.prompts"),
        ([*PLACE, "exam.parts.other.prompts=['a picture']"], "lacks {other}; write it where"),
        ([*PLACE, "+exam.parts.other.size=[1.5,1]"], "exam.parts.other.size: pictures of one alone "
         "are square; take it out, or set exam.parts.together.size, of pictures of both"),
        ([f"characters=[unicorn_girl,{MINE}]", "exam=quick", "exam.kind=place"], "exam=quick: "
         "kind=place, and the prompts of a character say nothing of a place; give it some of its "
         "own, exam.parts.other, as conf/exam/place.yaml has them"),
        (["character.kind=robot"], "character.kind=robot: should be 'character', 'object' or 'pla"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep([f"root={tmp_path}", *words])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_remedies_that_errors_name_work(tmp_path: Path) -> None:
    for words in (PLACE, OBJECT, ("characters=[thunder_bear,star_kite]", "exam=object")):
        assert load_sweep([f"root={tmp_path}", *words]).cells
    assert load_sweep([f"root={tmp_path}", f"characters=[unicorn_girl,{MINE}]", "exam=place"]).cells
