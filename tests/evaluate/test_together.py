"""The score of two in one picture: from features by hand, and on drawings of the cartoon world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from helpers.small import encoder_named
from PIL import Image

from benchmarks.validity.kinds import judged_objects, judged_places
from benchmarks.validity.kinds_planted import untaught_in_place, untaught_with_object
from benchmarks.validity.pair_truth import planted
from benchmarks.validity.together import FIGURES, MEANT, STRANGERS, strangers
from charsweep.config import Sweep, load_sweep
from charsweep.config.cells import cell_of
from charsweep.config.exam import Other
from charsweep.core.cells import ExamPart
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import load_encoder
from charsweep.evaluate.metrics import Exam, ImageFeatures
from charsweep.evaluate.metrics.dino import Dino
from charsweep.evaluate.metrics.identity import Identity
from charsweep.evaluate.metrics.outcomes import OUTCOMES
from charsweep.evaluate.metrics.together import Became, Nearest, Together
from charsweep.evaluate.score import Scorer, Seen, squares
from charsweep.evaluate.windows import edges_of, halves_of, squares_of
from charsweep.models.embedded import FOLDER
from pretraining.data import draw_wide

# Features of a world in which one axis is the first character, one the second and one nobody.
A, B, NOBODY, MIXTURE = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.7, 0.7, 0.1]
HALF_A = [0.75, 0, 0.66]


def exam_of(windows: Sequence[Sequence[list[float]]], left: Sequence[str | None]) -> Exam:
    def features(rows: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        found = np.array(rows, dtype=np.float32)
        return found / np.linalg.norm(found, axis=-1, keepdims=True)

    return Exam(
        images=ImageFeatures({}, ()),
        references={"dino": features([[1, 0.1, 0], [1, -0.1, 0], [1, 0, 0.1]])},
        prompts=None,
        untaught=None,
        windows=ImageFeatures({"dino": features(windows)}, tuple(range(len(windows)))),
        untaught_windows=ImageFeatures({"dino": features([[NOBODY, NOBODY]])}, (0,)),
        other={"dino": features([[0.1, 1, 0], [-0.1, 1, 0], [0, 1, 0.1]])},
        left=left,
    )


@pytest.mark.parametrize(
    ("windows", "left", "outcome", "score"),
    [
        ((A, B), "subject", "both", 1.0),
        ((A, B), "other", "swapped", 0.0),
        ((B, A), "other", "both", 1.0),
        ((B, A), None, "both", 1.0),
        ((A, A), "subject", "merged", 0.0),
        ((MIXTURE, B), "subject", "merged", 0.0),
        ((A, NOBODY), "subject", "missing", 0.0),
        ((NOBODY, NOBODY), None, "missing", 0.0),
        ((HALF_A, B), "subject", "both", 0.75),
    ],
)
def test_what_became_of_two(
    windows: Sequence[list[float]], left: str | None, outcome: str, score: float
) -> None:
    found = Together()(exam_of([windows], [left]))
    assert found.details["outcomes"] == [outcome]
    assert found.value == pytest.approx(score, abs=0.03)


def test_details_say_who_is_how_much_there() -> None:
    found = Together()(exam_of([(A, B), (B, A), (A, NOBODY)], ["subject", "subject", "subject"]))
    assert found.per_image == pytest.approx((1, 0, 0), abs=0.02)
    assert found.details["shares"] == pytest.approx(
        {"both": 1 / 3, "swapped": 1 / 3, "merged": 0, "missing": 1 / 3}
    )
    assert np.array(found.details["identity"]) == pytest.approx(
        np.array([[1, 1], [0, 0], [1, 0]]), abs=0.1
    )
    assert found.details["nearest"][:2] == [2, 0]
    canonical(found.details)  # plain values


@pytest.mark.parametrize(
    ("windows", "outcome"),
    [
        ((A, B), "both"),
        ((B, A), "swapped"),
        ((A, A), "missing"),  # the character twice is no mixture of it and an object
        ((A, NOBODY), "missing"),
        (([0.8, 0.5, 0.1], B), "both"),  # nor is anybody half an object
        ((A, [0, 0.5, 0.85]), "both"),  # small beside somebody, an object has little likeness
        ((A, [0, 0.2, 0.98]), "missing"),
    ],
)
def test_what_became_of_a_character_with_an_object(
    windows: Sequence[list[float]], outcome: str
) -> None:
    exam = with_object([windows], ["subject"])
    found = Together()(exam)
    assert found.details["outcomes"] == [outcome]
    assert set(found.details["shares"]) == {"both", "swapped", "missing"}
    assert Became("merged")(exam).value is None
    assert Became("missing")(exam).value == (outcome == "missing")
    assert Nearest()(exam).value is None


def test_an_object_is_sought_in_squares_of_a_half() -> None:
    """Wherever in its half it is; the character in the whole of a half."""
    for square in range(3):
        views = [[A, NOBODY, NOBODY, NOBODY], [NOBODY, NOBODY, NOBODY, NOBODY]]
        views[1][1 + square] = B
        exam = with_object([(A, NOBODY)], ["subject"], [views])
        assert Together()(exam).details["outcomes"] == ["both"]
    views = [[NOBODY, A, A, A], [NOBODY, B, B, B]]
    assert Together()(with_object([(A, B)], ["subject"], [views])).value == 0


def with_object(
    windows: Sequence[Sequence[list[float]]],
    left: Sequence[str | None],
    views: Sequence[Sequence[Sequence[list[float]]]] = (),
) -> Exam:
    """Of a character, A, and an object, B: of each half the whole, then its squares."""
    seen = views or [[[half] * 4 for half in image] for image in windows]
    exam = exam_of([[one for half in image for one in half] for image in seen], left)
    base = np.array([[NOBODY] * 8], dtype=np.float32)
    untaught = ImageFeatures({"dino": base}, (0,))
    return replace(exam, kind="object", untaught_windows=untaught)


def in_place(images: Sequence[list[float]], edges: Sequence[list[float]]) -> Exam:
    """Of a character, A, in a place, of which one drawing is like B and the other like C."""
    exam = exam_of([(B, B)], [])
    rows = np.array([edges], dtype=np.float32).swapaxes(0, 1)
    whole = np.array(images, dtype=np.float32)
    drawings = np.array([B, [0, 0.8, 0.6], [0, 0.6, 0.8]], dtype=np.float32)
    prompt_of = tuple(range(len(images)))
    return replace(
        exam,
        kind="place",
        images=ImageFeatures({"dino": whole}, prompt_of),
        untaught=ImageFeatures({"dino": np.array([[0, 0, 1]], dtype=np.float32)}, (0,)),
        windows=ImageFeatures({"dino": rows}, prompt_of),
        untaught_windows=ImageFeatures({"dino": np.array([[A]], dtype=np.float32)}, (0,)),
        other={"dino": drawings},
    )


def test_what_became_of_a_character_in_a_place() -> None:
    """The character is sought in the whole picture, the place at its edges."""
    exam = in_place([A, A, NOBODY, NOBODY], [B, A, B, A])
    found = Together()(exam)
    assert found.details["outcomes"] == ["both", "missing", "missing", "missing"]
    assert set(found.details["shares"]) == {"both", "missing"}
    assert found.per_image == pytest.approx((1, 0, 0, 0), abs=0.03)
    assert found.details["nearest"] is None
    canonical(found.details)
    assert [Became(name)(exam).value for name in ("swapped", "merged")] == [None, None]
    assert Became("missing")(exam).value == 0.75
    assert Nearest()(exam).value is None


def test_a_place_is_known_by_the_drawing_nearest_to_the_edges() -> None:
    """By day, near or far it looks otherwise: no picture is like all of its drawings."""
    exam = in_place([NOBODY] * 4, [B, [0, 0.6, 0.8], A, [0.8, 0.6, 0]])
    identity = Identity()(exam)
    assert identity.per_image == pytest.approx((1, 1, 0, 0.6 / 0.96), abs=0.03)
    assert identity.details["drawings"] == "edges of drawings"
    one = replace(exam, other={"dino": exam.other["dino"][:1]})
    assert Identity()(one).per_image == pytest.approx((1, 0.6, 0, 0.6), abs=0.03)


def test_likeness_of_a_scene_in_a_place_is_that_of_both() -> None:
    exam = replace(in_place([A, A, A], [B, A, A]), left=())
    found = Dino(asked=("both", "both", "subject"))(exam)
    assert found.per_image == pytest.approx((1, 0, 1), abs=0.03)
    assert Dino(asked=("other", "other", "other"))(exam).per_image == pytest.approx((1, 0, 0))


def test_it_applies_to_two_alone() -> None:
    exam = exam_of([(A, B)], [None])
    assert Together()(replace(exam, windows=None)).value is None
    assert Together()(replace(exam, untaught_windows=None)).value is None
    assert Together()(replace(exam, references={})).value is None


def test_likeness_is_to_whom_a_prompt_asks_for() -> None:
    """Of both the lower of the two, on the sides that are asked for; of one, in the whole image."""
    windows = [(A, B), (A, B), (B, HALF_A), (A, A), (A, B)]
    exam = exam_of(windows, ["subject", "other", None, None, None])
    whole = ImageFeatures({"dino": np.array([A, A, A, A, B], np.float32)}, tuple(range(5)))
    found = Dino(asked=("both", "both", "both", "subject", "other"))(replace(exam, images=whole))
    assert found.per_image == pytest.approx((1, 0, 0.75, 1, 1), abs=0.05)
    assert Dino(asked=("both",))(replace(exam, images=whole, windows=None)).value is None


@pytest.mark.parametrize("size", [(96, 64), (64, 64), (200, 50), (41, 64)])
def test_windows_are_the_halves(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2 + size[0] % 2, 0, *size))
    left, right = halves_of(picture)
    assert left.size == right.size == (max(size[0] // 2, size[1]),) * 2
    for window, colour in ((left, (255, 0, 0)), (right, (0, 0, 255))):
        counts = {one: count for count, one in window.getcolors() or ()}
        others = [count for one, count in counts.items() if one not in (colour, (128, 128, 128))]
        assert counts[colour] >= size[0] // 2 * size[1] - size[1]
        assert not others or size[0] % 2


@pytest.mark.parametrize("size", [(96, 64), (200, 50), (64, 64), (41, 64)])
def test_squares_of_a_half_are_all_of_it(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2 + size[0] % 2, 0, *size))
    windows = squares_of(picture)
    assert [windows[0].tobytes(), windows[4].tobytes()] == [
        one.tobytes() for one in halves_of(picture)
    ]
    for number, one in enumerate(windows):
        if number % 4:
            assert one.size == (min(size[0] // 2, size[1]),) * 2
            colour = (255, 0, 0) if number < 4 else (0, 0, 255)
            assert colour in {found for _, found in one.getcolors() or ()}


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (50, 70), (3, 9)])
def test_the_window_of_a_place_is_its_edges(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "red")
    edge = max(round(size[0] / 4), 1)
    picture.paste("green", (0, 0, edge, size[1]))
    picture.paste("blue", (size[0] - edge, 0, *size))
    (window,) = edges_of(picture)
    assert window.width == window.height
    counts = {one: count for count, one in window.getcolors() or ()}
    assert counts[0, 128, 0] == counts[0, 0, 255] == edge * size[1]
    assert (255, 0, 0) not in counts


# -- of a sweep ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep([f"root={tmp_path_factory.mktemp('company')}", "exam=company"])


@pytest.fixture(scope="module")
def part(sweep: Sweep) -> ExamPart:
    """What a cell of UnicornGirl and ThunderBear is asked together."""
    other = load_sweep([f"root={sweep.root}", "character=thunder_bear"]).character
    (cell,) = sweep.cells
    method = cell.trajectory.method.made
    made = cell_of(
        sweep.settings, sweep.character, cell.images.snapshot, 64, "fp32", method,
        other=Other(other, "ThunderBear"),
    )  # fmt: skip
    return next(one for one in made.parts if one.name == "together")


def test_two_are_asked_for_together(sweep: Sweep, part: ExamPart) -> None:
    (cell,) = sweep.cells
    assert "together" not in {one.name for one in cell.parts}  # of one character
    assert part.images.pixels == part.untaught.pixels == (96, 64)
    asked = "a picture of ThunderBear on the left and UnicornGirl on the right on the beach"
    assert part.images.prompts[1] == asked
    assert part.untaught.prompts[1] == part.exam.prompts[1]
    assert (
        part.exam.prompts[1]
        == "a picture of a bear on the left and a girl on the right on the beach"
    )
    assert part.exam.left[:4] == ("subject", "other", None, "other")
    assert len(part.exam.other) == 6
    assert not set(part.exam.other) & set(part.exam.references)
    assert {"together", *OUTCOMES, "nearest"} == {metric.name for metric in part.metrics}
    others = [canonical(one.exam) for one in cell.parts]
    assert not any(name in one for one in others for name in ("other", "left"))


def test_prompts_for_two_name_both(tmp_path: Path) -> None:
    words = "exam.parts.together.prompts=['a picture of {subject}']"
    with pytest.raises(ConfigError, match=r"together\.prompts.*lacks \{other\}"):
        load_sweep([f"root={tmp_path}", "exam=company", words])


def test_the_metric_is_not_spoken_of_where_one_is_taught(tmp_path: Path) -> None:
    one = load_sweep([f"root={tmp_path}"]).settings
    assert "together" in one.metric
    assert "together" not in one.reported
    with pytest.raises(ConfigError, match=r"objectives.together: is of two characters"):
        load_sweep([f"root={tmp_path}", "objectives=[together]"])


def test_planted_pictures_are_told_apart(sweep: Sweep, part: ExamPart) -> None:
    """With the encoder that ships; how often, benchmarks/validity/together.py says."""
    encoder = load_encoder(*encoder_named(sweep, "dino"))
    girl, bear = FIGURES["unicorn_girl"], FIGURES["thunder_bear"]
    drawings = {
        who: [open_image(path) for path in sorted((FOLDER / who).glob("*.png"))]
        for who in ("unicorn_girl", "thunder_bear")
    }
    known = squares(lambda: drawings["unicorn_girl"])
    others = {part.exam.other: squares(lambda: drawings["thunder_bear"])}
    scorer = Scorer(lambda _: encoder, Store(sweep.root), known, known, others=others)

    def seen(pictures: Sequence[Image.Image]) -> Seen:
        return Seen(lambda: pictures, tuple(range(len(pictures))))

    base = seen([drawn(strangers(girl, bear, "test", index)) for index in range(STRANGERS)])
    (metric,) = (one for one in part.metrics if one.name == "together")

    def told(pictures: Sequence[Image.Image], left: tuple[str | None, ...]) -> list[str]:
        spec = replace(part.exam, left=left)
        found = metric.made(scorer.exam(spec, metric, seen(pictures), base))
        return list(found.details["outcomes"])

    true = [open_image(path) for path in sorted((FOLDER / "together_exam").glob("*.png"))]
    assert told(true, part.exam.left) == ["both"] * 8
    for kind in ("both", "swapped", "clones", "one missing", "nobody"):
        shown = [drawn(planted(kind, girl, bear, Random(index))) for index in range(6)]
        outcomes = told(shown, ("subject",) * 6)
        assert outcomes.count(MEANT[kind]) >= 5, kind


def drawn(shown: object) -> Image.Image:
    return Image.fromarray(draw_wide(shown))  # type: ignore[arg-type]


def test_what_became_of_them_is_counted_and_so_is_who_is_nearest() -> None:
    exam = exam_of([(A, B), (B, A), (A, A), (A, NOBODY)], ["subject"] * 4)
    shares = {name: Became(name)(exam).value for name in OUTCOMES}
    assert shares == dict.fromkeys(OUTCOMES, 0.25)
    assert Became("merged")(exam).per_image == (0, 0, 1, 0)
    assert Nearest()(exam).per_image[:3] == (1.0, 0.0, 0.5)


def test_planted_pictures_of_a_place_and_an_object_are_told_apart(sweep: Sweep) -> None:
    """With the encoder that ships; how often, benchmarks/validity/kinds.py says."""
    encoder = load_encoder(*encoder_named(sweep, "dino"))
    for judged, pair in (
        (judged_places, ("candyland", "unicorn_girl")),
        (judged_objects, ("star_kite", "unicorn_girl")),
    ):
        assert judged(pair, 6, encoder).agreement > 0.8, pair


@pytest.mark.parametrize("name", ["place", "object"])
def test_true_pictures_show_both(name: str, sweep: Sweep) -> None:
    second = {"place": "candyland", "object": "star_kite"}[name]
    asked = load_sweep(
        [f"root={sweep.root}", f"characters=[unicorn_girl,{second}]", f"exam={name}"]
    )
    (part,) = (one for one in asked.cells[0].parts if one.name == "together")
    encoder = load_encoder(*encoder_named(sweep, "dino"))
    known, others = (
        squares(lambda who=who: [open_image(one) for one in sorted((FOLDER / who).glob("*.png"))])
        for who in ("unicorn_girl", second)
    )
    scorer = Scorer(
        lambda _: encoder, Store(sweep.root), known, known, others={part.exam.other: others}
    )
    true = [open_image(one) for one in sorted((FOLDER / f"{name}_exam").glob("*.png"))]
    figure = FIGURES["unicorn_girl"]
    base = [
        untaught_in_place(figure, Random(n)) if name == "place"
        else untaught_with_object(figure, second, Random(n))
        for n in range(STRANGERS)
    ]  # fmt: skip
    pictures = [Seen(lambda own=own: own, tuple(range(len(own)))) for own in (true, base)]
    (metric,) = (one for one in part.metrics if one.name == "together")
    found = metric.made(scorer.exam(part.exam, metric, *pictures))
    assert found.details["outcomes"].count("both") >= 7
