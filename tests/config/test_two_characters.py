"""Two characters: what the words for them mean, and what they may not be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.small import sweep_of

from charsweep.core.cells import Cell, ExamPart
from charsweep.core.columns import regional
from charsweep.core.errors import CharacterError, ConfigError
from charsweep.core.keys import canonical
from charsweep.core.specs import ComposedSpec, ImageSetSpec, TrajectorySpec, revived
from charsweep.core.store import Store
from charsweep.models import embedded
from charsweep.plan import plan_work
from charsweep.plan.describe import describe_plan, reckon

PROMPTS = [
    "a picture of {subject} on the left and {other} on the right on a white background",
    "a picture of {other} on the left and {subject} on the right on the beach",
]
COMPANY = (f"exam.parts={{together:{{prompts:{PROMPTS},seeds:[0],size:[1.5,1]}}}}",)
BOTH = "characters=[unicorn_girl,thunder_bear]"
TOGETHER = (BOTH, "company=together")


def own(folder: Path, **more: str) -> str:
    """Settings of a character in a folder, as an entry."""
    said = {"name": "mia", "images": str(folder), "identifier": "Mia", "class_noun": "cat"} | more
    return "{" + ",".join(f"{name}:'{value}'" for name, value in said.items()) + "}"


def part(name: str, *prompts: str) -> str:
    """A part of the exam with these prompts, as it is typed."""
    return f"exam.parts={{{name}:{{prompts:{list(prompts)},seeds:[0]}}}}"


def asked_of(cell: Cell, name: str) -> ExamPart:
    (found,) = (one for one in cell.parts if one.name == name)
    return found


@pytest.fixture
def mia(tmp_path: Path) -> Path:
    """Drawings of hers without captions and masks."""
    ignored = shutil.ignore_patterns("*.txt", "masks")
    return Path(shutil.copytree(embedded.THUNDER_BEAR, tmp_path / "mia", ignore=ignored))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two pictures of both, with captions."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("00", "01"):
        shutil.copy(embedded.TOGETHER_EXAM / f"{name}.png", folder)
        (folder / f"{name}.txt").write_text("ThunderBear and UnicornGirl", encoding="utf-8")
    return folder


def trajectories(root: Path, *words: str) -> list[TrajectorySpec]:
    return [cell.trajectory for cell in sweep_of(root, *words).cells]


# -- what they mean --------------------------------------------------------------------------------


def test_the_first_takes_the_place_of_the_one(tmp_path: Path) -> None:
    (alone,) = sweep_of(tmp_path, "character=thunder_bear").cells
    pair = sweep_of(tmp_path, "characters=[thunder_bear,unicorn_girl]")
    assert alone.key in [cell.key for cell in pair.cells]  # an adapter each: that of the first
    assert pair.settings.character.identifier == "ThunderBear"
    assert [one.identifier for one in pair.settings.characters] == ["ThunderBear", "UnicornGirl"]


def test_settings_are_put_upon_those_of_a_folder(mia: Path, tmp_path: Path) -> None:
    settings = sweep_of(tmp_path, f"characters=[unicorn_girl,{own(mia)}]").settings
    (_, other) = settings.characters
    assert (other.name, other.images, other.masks) == ("mia", str(mia), None)
    assert other.instance_prompt == "a picture of Mia"
    assert other.class_prompt == "a picture of a cat"


def test_together_is_one_trajectory_of_both(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *TOGETHER)
    (cell,) = sweep.cells
    company = cell.trajectory.company
    assert company is not None
    assert cell.trajectory.character.identifier == cell.identifier == "UnicornGirl"
    assert company.other.identifier == "ThunderBear"
    assert company.joint_share == 0.25
    assert [len(masks) for masks in company.cut] == [6, 6]
    assert company.masks == ()  # which the loss does not heed
    assert revived(TrajectorySpec, canonical(cell.trajectory)).key == cell.trajectory.key
    assert all(mask in sweep.drawings.paths for masks in company.cut for mask in masks)
    plan = plan_work(sweep.cells, Store(tmp_path))
    text = describe_plan(sweep, reckon(sweep, Store(tmp_path), plan))
    assert "UnicornGirl: 6 drawings, 6 captions, 6 masks\n" in text
    assert (
        "  company       UnicornGirl and ThunderBear in one adapter, 25 % of the steps show both: "
        "pictures composed by their masks\n" in text
    )


def test_what_one_is_taught_has_no_company(tmp_path: Path) -> None:
    (alone,) = trajectories(tmp_path)
    assert alone.company is None
    assert "company" not in canonical(alone)


def test_taught_apart_each_is_taught_as_if_alone(tmp_path: Path) -> None:
    """And drawn alone too, so that there is something to compose."""
    prior = ("method.prior_weight=1", "method.class_images=2")
    cells = sweep_of(tmp_path, BOTH, *prior, *COMPANY).cells
    strengths = [(cell.values["strength"], cell.values["other_strength"]) for cell in cells]
    assert strengths == [(1, 1), (1, 0), (0, 1)]
    together, *alone = cells
    assert isinstance(together.source, ComposedSpec)
    for cell, name in zip(alone, ("unicorn_girl", "thunder_bear"), strict=True):
        (own,) = sweep_of(tmp_path, f"character={name}", *prior).cells
        assert cell.trajectory == own.trajectory
        assert cell.class_images == own.class_images
    first, other = (cell.images.snapshot for cell in alone)
    assert [one.snapshot for one in together.source.components] == [first, other]
    assert revived(ImageSetSpec, canonical(together.images)).key == together.key


def test_drawn_alone_its_images_are_those_of_one_character(tmp_path: Path) -> None:
    _, alone, _ = sweep_of(tmp_path, BOTH, *COMPANY).cells
    (own,) = sweep_of(tmp_path, *COMPANY).cells
    assert alone.images.key == own.images.key


@pytest.mark.parametrize("company", ["separate", "together"])
def test_each_cell_is_asked_for_each_and_for_both(company: str, tmp_path: Path) -> None:
    words = (f"company={company}", "sampler.regional=false")
    cell = sweep_of(tmp_path, BOTH, *words, *COMPANY).cells[0]
    parts = {part.name: part for part in cell.parts}
    assert {"together", "other"} <= parts.keys()
    assert parts["together"].images.size == (96, 64)
    assert parts["together"].images.prompts[0] == (
        "a picture of UnicornGirl on the left and ThunderBear on the right on a white background"
    )
    assert "a girl on the left and a bear" in parts["together"].untaught.prompts[0]
    assert all("ThunderBear" in prompt for prompt in parts["other"].images.prompts)
    assert all(part.images.snapshot == cell.images.snapshot for part in cell.parts)
    names = [metric.name for metric in (*cell.metrics, *parts["other"].metrics)]
    assert {"first_score", "other_score"} <= set(names)
    assert cell.worst_of == ("first_score", "other_score", "together")


def test_each_half_has_words_of_its_own_where_that_is_asked(tmp_path: Path) -> None:
    plain, cell = (
        sweep_of(tmp_path, *TOGETHER, "exam=company", f"sampler.regional={asked}").cells[0]
        for asked in ("false", "true")
    )
    whole, halves = (asked_of(one, "together") for one in (plain, cell))
    told = [regional(prompt) for prompt in halves.images.prompts]
    assert tuple(one.whole for one in told) == whole.images.prompts
    assert halves.exam == whole.exam  # pictures are judged by the words of the whole
    assert told[0].columns == (
        "a picture of UnicornGirl walking in a forest", "a picture of ThunderBear in a forest"
    )  # fmt: skip
    assert told[1].columns[0] == "a picture of ThunderBear on the beach"
    assert regional(halves.untaught.prompts[0]).columns == (
        "a picture of a girl walking in a forest", "a picture of a bear in a forest"
    )  # fmt: skip
    assert not any("ADDCOL" in prompt for prompt in cell.images.prompts)


def test_a_half_without_words_of_its_own_is_told_the_whole_with_its_own_one(tmp_path: Path) -> None:
    """On the sides that the prompt says, else the first on the left."""
    words = part("together", "{other} on the left, {subject} on the right", "{other}, {subject}")
    cell = sweep_of(tmp_path, *TOGETHER, words, "sampler.regional=true").cells[0]
    told = [regional(prompt).columns for prompt in asked_of(cell, "together").images.prompts]
    girl, bear = "UnicornGirl", "ThunderBear"
    assert told == [
        tuple(f"{who} on the left, {who} on the right" for who in (bear, girl)),
        (f"{girl}, {girl}", f"{bear}, {bear}"),
    ]


def test_adapters_by_halves_draw_apart_and_alone_at_each_strength(tmp_path: Path) -> None:
    strengths = "+axes={strength: [0.5], other_strength: [0, 0.8]}"
    cells = sweep_of(tmp_path, BOTH, "exam=company", "sampler.regional=true", strengths).cells
    pairs = [(cell.values["strength"], cell.values["other_strength"]) for cell in cells]
    assert pairs == [(0.5, 0), (0.5, 0.8), (1.0, 0.0), (0.0, 1.0), (0.0, 0.8)]
    assert not any("ADDCOL" in told for told in asked_of(cells[0], "together").images.prompts)
    both = cells[1]
    assert isinstance(both.source, ComposedSpec)
    assert both.source.called == ("UnicornGirl", "ThunderBear")
    (first, other) = both.source.components
    drawn = both.images.as_drawn
    assert (drawn.snapshot, drawn.strength) == (first.snapshot, 0.5)
    assert drawn == cells[0].images.as_drawn
    for name in ("other", "others of the other"):
        drawn = asked_of(both, name).images.as_drawn
        assert (drawn.snapshot, drawn.strength, drawn.whose) == (other.snapshot, 0.8, 0)
    assert asked_of(both, "others").images.as_drawn.snapshot == first.snapshot
    wide = asked_of(both, "together").images
    assert wide.as_drawn.snapshot == wide.snapshot


@pytest.mark.parametrize(
    ("regional", "told"),
    [("true", "each on its own half of a picture of both"), ("false", "both on all of every")],
)
def test_a_plan_says_where_adapters_draw_and_counts_no_picture_twice(
    regional: str, told: str, tmp_path: Path
) -> None:
    words = (BOTH, *COMPANY, f"sampler.regional={regional}", "+axes.strength=[0.5,1]")
    sweep, store = sweep_of(tmp_path, *words), Store(tmp_path)
    plan = plan_work(sweep.cells, store)
    assert f"  company       an adapter each, {told}" in describe_plan(
        sweep, reckon(sweep, store, plan)
    )
    (both,) = (
        training for training in plan.trainings
        if isinstance(training.source, ComposedSpec)
        and training.source.components[0].strength == 1
    )  # fmt: skip
    wide = next(one.images for one in both.cells[0].parts if one.name == "together")
    drawn = sum(scoring.to_draw for scoring in both.scorings)
    every = sum(scoring.images.count for scoring in both.scorings)
    assert drawn == (wide.count if regional == "true" else every)


def test_words_of_each_half_are_an_axis(tmp_path: Path) -> None:
    """Of cells whose pictures of one are the same, and are judged by those of two."""
    axis = "+axes.sampler.regional=[false,true]"
    plain, halves = sweep_of(tmp_path, *TOGETHER, *COMPANY, axis).cells
    assert plain.key != halves.key
    assert plain.images.prompts == halves.images.prompts
    assert plain.untaught_set == halves.untaught_set
    (default,) = sweep_of(tmp_path, *TOGETHER, *COMPANY).cells
    assert default.key == halves.key
    assert len(sweep_of(tmp_path, *TOGETHER, axis).cells) == 1  # nobody asks for both
    apart = sweep_of(tmp_path, BOTH, *COMPANY, axis).cells  # alone each draws as ever
    assert len({cell.key for cell in apart}) == len(apart) == 4


@pytest.mark.parametrize("axis", ["{low:0,high:0.5}", "[0,0.25]"])
def test_a_search_knows_what_shows_both_before_it_chooses(axis: str, tmp_path: Path) -> None:
    """Though its first value is that no step does."""
    sweep = sweep_of(tmp_path, *TOGETHER, "search=tpe", f"+axes={{company.joint_share:{axis}}}")
    known = dict(sweep.drawings.paths)
    company = sweep.cell_at({"company.joint_share": 0.25}).trajectory.company
    assert company is not None
    assert company.cut
    assert all(mask in known for masks in company.cut for mask in masks)


def test_prompts_with_columns_keep_them(tmp_path: Path) -> None:
    """Unless the whole is drawn at once. Who is on the left is who the first column names."""
    words = part("together", "two on the beach ADDBASE a hat on {other} ADDCOL {subject}")
    whole = "two on the beach"
    halves = f"{whole} ADDBASE a hat on ThunderBear ADDCOL UnicornGirl"
    for told, more in ((halves, "null"), (halves, "true"), (whole, "false")):
        cell = sweep_of(tmp_path, *TOGETHER, words, f"sampler.regional={more}").cells[0]
        asked = asked_of(cell, "together")
        assert asked.images.prompts == (told,)
        assert asked.exam.left == ("other",)
        assert asked.exam.prompts == (whole,)


def test_the_subject_of_references_is_that_of_each(tmp_path: Path) -> None:
    """Who has no masks is named, the second too."""
    bear = own(embedded.THUNDER_BEAR, identifier="Bee", masks="file")
    entries = f"[{bear},unicorn_girl]"
    told = message(tmp_path, f"characters={entries}", "references=subject")
    assert (
        told
        == "references=subject: UnicornGirl: masks=null; set masks: file or alpha in characters"
    )
    assert sweep_of(tmp_path, f"characters={entries}", "+axes.mask_background=[0.1,0.5]").cells


def test_a_plan_says_where_nobody_asks_for_both(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *TOGETHER, "metric=[score,together]")
    plan = plan_work(sweep.cells, Store(tmp_path))
    text = describe_plan(sweep, reckon(sweep, Store(tmp_path), plan))
    assert "not asked     together: exam=quick has no prompts for them" in text
    sweep = sweep_of(tmp_path, *COMPANY)
    text = describe_plan(
        sweep, reckon(sweep, Store(tmp_path), plan_work(sweep.cells, Store(tmp_path)))
    )
    assert "exam=quick asks for two characters (together), and there is one" in text


def test_a_study_notices_another_second_character(mia: Path, tmp_path: Path) -> None:
    """Taught apart, whatever the first is."""
    one, other = (
        dict(sweep_of(tmp_path, f"characters=[unicorn_girl,{entry}]").meaning)
        for entry in ("thunder_bear", own(mia))
    )
    assert one["other"] != other["other"]
    assert one["character"] == other["character"]


def test_what_is_cut_of_the_second_is_refused_too(mia: Path, tmp_path: Path) -> None:
    """Taught apart, as in a sweep of its own."""
    (mia / "01.txt").write_text(f"{'a red hat, ' * 20} Mia", encoding="utf-8")
    told = message(tmp_path, f"characters=[unicorn_girl,{own(mia)}]", "method.prompts=captions")
    assert "caption of 01.png: the identifier Mia stands beyond the first" in told


def test_how_they_are_taught_can_vary(shared: Path, tmp_path: Path) -> None:
    axes = "+axes={company:[separate,together],company.joint_share:[0,0.25],method.rank:[4,8]}"
    cells = sweep_of(tmp_path, BOTH, axes).cells
    told = [
        (cell.values["company"], cell.values.get("company.joint_share"), cell.values["method.rank"])
        for cell in cells
        if cell.values.get("strength", 1) == cell.values.get("other_strength", 1)  # none alone
    ]
    assert told == [
        ("separate", None, 4), ("separate", None, 8),
        ("together", 0, 4), ("together", 0, 8), ("together", 0.25, 4), ("together", 0.25, 8),
    ]  # fmt: skip
    assert len({cell.source.key for cell in cells}) == 10  # apart: of each, and of both
    without = cells[6].trajectory.company  # the first that is taught together
    assert without is not None
    assert without.cut == ()  # no step shows both, so that nothing of it counts
    packs = plan_work(cells, Store(tmp_path)).packs
    assert [len(pack.trainings) for pack in packs] == [2, 2, 2, 2]  # of each, and of one share each

    given = f"+axes.company.joint_images=[null,{shared}]"
    composed, drawn = trajectories(tmp_path, *TOGETHER, given)
    assert composed.company is not None
    assert drawn.company is not None
    assert drawn.company.cut == ()
    assert drawn.company.joint_captions == ("ThunderBear and UnicornGirl",) * 2
    assert not drawn.company.composes


def test_parts_may_be_of_other_company(tmp_path: Path) -> None:
    parts = "parts={apart:{},both:{company:together}}"
    *_, apart, both = sweep_of(tmp_path, BOTH, parts).cells
    assert apart.trajectory.company is None
    assert both.trajectory.company is not None


def test_class_images_of_both_classes(tmp_path: Path) -> None:
    words = (*TOGETHER, "method.prior_weight=1", "method.class_images=2")
    (cell,) = sweep_of(tmp_path, *words).cells
    company = cell.trajectory.company
    assert company is not None
    assert [own.prompts for own in cell.class_sets] == [
        ("a picture of a girl",), ("a picture of a bear",)
    ]  # fmt: skip
    assert (cell.trajectory.class_images, company.class_images) == tuple(
        own.key for own in cell.class_sets
    )
    drawn = {scoring.images.key for scoring in plan_work([cell], Store(tmp_path)).references}
    assert drawn.issuperset(own.key for own in cell.class_sets)


def test_masks_of_either_count_in_the_loss_alone(tmp_path: Path) -> None:
    bear = own(embedded.THUNDER_BEAR, identifier="Bee", masks="file")
    (taught,) = trajectories(tmp_path, f"characters=[unicorn_girl,{bear}]", "company=together",
                             "method=dreambooth_lora")  # fmt: skip
    assert taught.company is not None
    assert taught.framing.masks == ()
    assert taught.framing.background == 0.1
    assert len(taught.company.masks) == 6


# -- what they may not be --------------------------------------------------------------------------


def message(root: Path, *words: str, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        sweep_of(root, *words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["characters=[unicorn_girl]"], "these are 1; for one, character=NAME is enough"),
        (["characters=[unicorn_girl,thunder_bear,folder]"], "these are 3; give two, as in"),
        (["characters=[unicorn_girl,nobody]"], "there is no conf/character/nobody.yaml"),
        (["characters=[unicorn_girl,folder]"], "characters: folder: images is not set"),
        (["characters=[unicorn_girl,7]"], "characters: 7 is no character"),
        (["characters=[unicorn_girl,{images:x,hair:red}]"], "there is no setting hair of a char"),
        (["characters=[unicorn_girl,unicorn_girl]"], "both have the identifier UnicornGirl"),
        ([BOTH, "character.masks=file"], "character.masks=file: characters=[unicorn_girl, th"),
        ([BOTH, "+axes.character=[unicorn_girl,thunder_bear]"], "axes.character: characters says"),
        ([BOTH, "+axes.characters=[a,b]"], "axes.characters: nothing of that name can vary"),
        (["company=together"], "characters=[] has none; set characters=[unicorn_girl,thunder_b"),
        (["company.joint_share=0.5"], "company.joint_share=0.5: is for two characters in one"),
        ([BOTH, "company.joint_images=x"], "company.joint_images=x: is for two characters in one"),
        ([*TOGETHER, "company.joint_share=1.5"], "should be less than or equal to 1"),
        ([*TOGETHER, "company.joint_share=null"], "should be a number from 0 to 1"),
        ([*TOGETHER, "method=gan"], "method=gan starts from nothing and reads no prompts"),
        ([*TOGETHER, "+axes.method=[lora,diffusion]"], "method=diffusion starts from nothing"),
        ([*TOGETHER, "method=textual_inversion"], "learns what one word stands for"),
        (["other_strength=0.8"], "other_strength=0.8: is of the second character's adapter"),
        (["+axes.other_strength=[0.5,1]"], "axes.other_strength: is of the second character's"),
        ([*TOGETHER, "other_strength=0.8"], "other_strength=0.8: company=together has one"),
        (
            [BOTH, "exam.parts.together.seeds=[1]"],
            "this exam has no part together; choose exam=company, which has it, or add it whole",
        ),
        (
            [BOTH, "exam.parts.others.size=[1.5,1]"],
            "that part says no size yet, and one is added; type +exam.parts.others.size=[1.5,1]",
        ),
        (["sampler.regional=true"], "sampler.regional=true: is for pictures of two characters"),
        ([*TOGETHER, "search=race", "+axes.lr=[1e-3,1e-4]"], "search=race: cells leave by the"),
        ([BOTH, "references=subject"], "UnicornGirl and ThunderBear: masks=null; set masks: file"),
        ([BOTH, part("other", "a {subject}")], "exam.parts.other"),
        ([BOTH, part("changes", "{subject} and {other}")], "asks for {other}, and that part is of"),
        ([part("changes", "{subject} ADDCOL b")], "ADDCOL gives columns of a picture"),
        (
            [
                BOTH,
                part(
                    "together",
                    "{subject} on the left, {other} on the right ADDBASE {other} ADDCOL {subject}",
                ),
            ],
            "has one on the left in the whole and the other in the columns; swap these",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    told = message(tmp_path, *words)
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(("name", "within"), [("Unicorn Girl", "girl"), ("mia", "Mia Bee")])
def test_identifiers_are_apart_as_words(name: str, within: str, mia: Path, tmp_path: Path) -> None:
    first, second = own(mia, identifier=name), own(mia, identifier=within)
    told = message(tmp_path, f"characters=[{first},{second}]")
    assert "stands within" in told
    assert len(told.splitlines()) == 1
    first, second = own(mia, identifier="Ani"), own(mia, identifier="Anita")
    settings = sweep_of(tmp_path, f"characters=[{first},{second}]").settings
    assert len(settings.characters) == 2  # which is no word of the other's


def test_composing_needs_masks_and_says_what_does_not(
    mia: Path, shared: Path, tmp_path: Path
) -> None:
    words = (f"characters=[{own(mia, identifier='ThunderBear')},unicorn_girl]", "company=together")
    told = message(tmp_path, *words, kind=CharacterError)
    assert "character mia, folder" in told
    assert "has no masks, and company=together cuts characters and objects out" in told
    for remedy in ("company.joint_share=0", f"company.joint_images={shared}"):
        assert remedy.partition("=")[0] in told
        assert trajectories(tmp_path, *words, remedy)
    shutil.copytree(embedded.THUNDER_BEAR / "masks", mia / "masks")
    assert trajectories(tmp_path, *words)
    (mia / "masks" / "03.png").unlink()
    told = message(tmp_path, *words, kind=CharacterError)
    assert "03.png: has no mask: add 03-mask.png" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "01.png: has no caption: write 01.txt, which names UnicornGirl and ThunderBear"),
        ("a girl and ThunderBear", "01.png: its caption lacks UnicornGirl: write it in, or take"),
        ("two friends", "01.png: its caption lacks UnicornGirl and ThunderBear"),
    ],
)
def test_pictures_of_both_name_both(
    text: str | None, said: str, shared: Path, tmp_path: Path
) -> None:
    caption = shared / "01.txt"
    caption.unlink() if text is None else caption.write_text(text, encoding="utf-8")
    told = message(tmp_path, *TOGETHER, f"company.joint_images={shared}", kind=CharacterError)
    assert said in told
    assert len(told.splitlines()) == 1


def test_captions_of_both_are_read_to_their_end(shared: Path, tmp_path: Path) -> None:
    (shared / "01.txt").write_text(f"UnicornGirl {'on a red hat ' * 12} and ThunderBear")
    told = message(tmp_path, *TOGETHER, f"company.joint_images={shared}")
    assert "caption of 01.png: the identifier ThunderBear stands beyond the first 46 tokens" in told


def test_a_study_notices_other_company(tmp_path: Path) -> None:
    def meaning(*words: str) -> dict[str, Any]:
        return dict(sweep_of(tmp_path, *words).meaning)

    alone, both = meaning(), meaning(*TOGETHER)
    name = "dreambooth_lora.together"
    assert (alone[name], both[name]) == (False, True)
    assert both["dreambooth_lora.joint_share"] == 0.25
    less = meaning(*TOGETHER, "company.joint_share=0")
    assert less["both"] != both["both"]
    assert less["other"] == both["other"]


@pytest.mark.parametrize("search", ["tpe", "race", "find"])
def test_adapters_of_each_are_a_grid(search: str, tmp_path: Path) -> None:
    axes = () if search == "find" else ("+axes.lr=[1e-3,1e-4]",)
    with pytest.raises(ConfigError, match=f"company=separate: search={search} chooses by results"):
        sweep_of(tmp_path, BOTH, f"search={search}", *axes)


def test_whole_weights_are_not_put_together(tmp_path: Path) -> None:
    told = message(tmp_path, BOTH, "method=dreambooth")
    assert told.startswith("company=separate: method=dreambooth makes no adapter")
    assert told.endswith("as method=lora, or company=together")
    told = message(tmp_path, BOTH, "method=textual_inversion")
    assert told.endswith("as method=lora")  # nor can it be taught both
