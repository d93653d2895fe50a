"""Captions that change from step to step, and what else text is taught with; all of it exact."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small import ONE_IMAGE, base_named, execute, small, snapshot_bytes, sweep_of
from helpers.variants import slow
from PIL import Image
from safetensors.torch import load

from charsweep.__main__ import main
from charsweep.core.errors import CharacterError, ConfigError
from charsweep.core.methods import CaptionChanges
from charsweep.core.seeding import generator
from charsweep.core.specs import SnapshotSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.losses import read_losses
from charsweep.models import embedded
from charsweep.models.load import load_base
from charsweep.plan import plan_work
from charsweep.train.batches import TrainingImages, changed

ADAPTER = "pytorch_lora_weights.safetensors"
TAGS = ["standing", "white background", "arms raised", "smile", "day"]
CHANGED = ["method.shuffle_caption=true", "method.keep_tokens=1", "method.caption_dropout_rate=0.3"]
RATE = 1e-3


@pytest.fixture
def tagged(tmp_path: Path) -> list[str]:
    """Words for a character whose captions are tags, and a method that reads them."""
    folder = tmp_path / "tagged"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", folder)
    for number, path in enumerate(sorted(folder.glob("*.txt"))):
        path.write_text(", ".join(["UnicornGirl", *TAGS[number % 3 :]]), encoding="utf-8")
    return ["method=lora", "character=folder", f"character.images={folder}",
            "character.identifier=UnicornGirl", "character.class_noun=girl"]  # fmt: skip


def rows_of(store: Store, spec: TrajectorySpec) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in store.losses(spec)]


def trained(root: Path, *words: str, step: int = 4) -> tuple[dict[str, bytes], list[Any]]:
    """The last snapshot and the losses of the cell at the rate."""
    sweep, store, _ = execute(root, *ONE_IMAGE, *words)
    cell = next(c for c in sweep.cells if c.values["lr"] == RATE and c.step == step)
    files = snapshot_bytes(store.snapshot(cell.images.snapshot))
    own = {name: data for name, data in files.items() if name.endswith(".safetensors")}
    return own, rows_of(store, cell.trajectory)


# -- what becomes of a caption ---------------------------------------------------------------------


def test_tags_change_places_as_sd_scripts_has_it() -> None:
    """The first ones stay, the others come in every order; none is lost, and spaces are settled."""
    text = "Mia,girl , a, b,c"
    changes = CaptionChanges(shuffle=True, kept=2)
    seen = {changed(text, changes, generator(0, "x", step)) for step in range(200)}
    orders = itertools.permutations(["a", "b", "c"])
    assert seen == {", ".join(["Mia", "girl", *order]) for order in orders}
    assert changed(text, CaptionChanges(), generator(0, "x")) == text


def test_dropout_leaves_captions_out_as_often_as_it_says() -> None:
    changes = CaptionChanges(dropout_rate=0.25)
    drawn = [changed("Mia, a", changes, generator(0, "x", step)) for step in range(2000)]
    assert set(drawn) == {"", "Mia, a"}
    assert drawn.count("") / 2000 == pytest.approx(0.25, abs=0.03)


def test_a_caption_is_a_function_of_seed_and_step(tagged: list[str], tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *tagged, *CHANGED)
    spec = sweep.cells[0].trajectory
    base = load_base(spec.base, base_named(sweep, "sdxl"), torch.device("cpu"))
    images = [Image.open(path).convert("RGB") for path in sweep.character.paths]
    changes = spec.method.made.caption_changes
    captions = list(spec.character.captions)

    def made(seed: int, changes: CaptionChanges) -> TrainingImages:
        own = replace(spec, seed=seed)
        return TrainingImages(
            base, own, "image", spec.character.digests, images, captions, spec.framing, (), changes
        )

    forwards = [made(0, changes).batch(step) for step in range(12)]
    backwards = [made(0, changes).batch(step) for step in reversed(range(12))][::-1]
    assert [b.captions for b in forwards] == [b.captions for b in backwards]
    assert [b.captions for b in forwards] != [made(1, changes).batch(s).captions for s in range(12)]
    plain = [made(0, CaptionChanges()).batch(step) for step in range(12)]
    for one, other in zip(forwards, plain, strict=True):  # nothing else is drawn otherwise
        assert torch.equal(one.latents, other.latents)


# -- exact -----------------------------------------------------------------------------------------

KINDS = {
    "adapters": [],
    "adapters and text": ["method.text_encoder=true", "method.text_encoder_lr=5e-4"],
    "weights": ["method=dreambooth", "method.prompts=captions", "method.prior_weight=0"],
    "weights and text": [
        "method=dreambooth", "method.prompts=captions", "method.class_images=2",
        "method.text_encoder=true", "method.text_encoder_lr=1e-4",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind if kind == "weights" else slow(kind) for kind in KINDS])
def test_prefixes_and_resumption_are_exact(kind: str, tagged: list[str], tmp_path: Path) -> None:
    words = [*tagged, *KINDS[kind], *CHANGED, "metric=[score]", f"lr={RATE}"]
    whole, rows = trained(tmp_path / "whole", *words, "train_steps=5", step=5)
    execute(tmp_path / "parts", *ONE_IMAGE, *words, "train_steps=2")
    assert trained(tmp_path / "parts", *words, "train_steps=5", step=5) == (whole, rows)
    longer = trained(tmp_path / "long", *words, "+axes.train_steps=[5,7]", step=5)
    assert (longer[0], longer[1][:5]) == (whole, rows)
    assert trained(tmp_path / "plain", *words, *UNCHANGED, "train_steps=5", step=5)[1] != rows


UNCHANGED = ["method.shuffle_caption=false", "method.keep_tokens=0",
             "method.caption_dropout_rate=0"]  # fmt: skip


@pytest.mark.parametrize("kind", [slow("adapters"), "adapters and text"])
def test_a_trial_does_not_depend_on_its_company(
    kind: str, tagged: list[str], tmp_path: Path
) -> None:
    """Alone, in another slot, and beside trials whose captions do not change, or change otherwise:
    with these their embeddings are kept, without they are not."""
    words = [*tagged, *KINDS[kind], *CHANGED, "metric=[score]", "train_steps=4"]
    alone = trained(tmp_path / "alone", *words, f"lr={RATE}")
    assert trained(tmp_path / "third", *words, f"+axes.lr=[1e-2,1e-4,{RATE}]") == alone
    rates = [word for word in words if "dropout" not in word and "keep" not in word]
    axes = "+axes={method.shuffle_caption:[false,true],method.caption_dropout_rate:[0,0.3]}"
    rates = [word for word in rates if "shuffle" not in word]
    sweep, store, _ = execute(tmp_path / "mixed", *ONE_IMAGE, *rates, axes, f"lr={RATE}")
    (pack,) = plan_work(sweep.cells, Store(tmp_path / "nowhere")).packs
    assert len(pack.trainings) == 4
    one = sweep.cells[3].trajectory
    assert one.method.made.caption_changes == CaptionChanges(True, 0, 0.3)
    beside = snapshot_bytes(store.snapshot(SnapshotSpec(one, 4)))[ADAPTER]
    rest = ["method.shuffle_caption=true", "method.caption_dropout_rate=0.3", f"lr={RATE}"]
    assert trained(tmp_path / "one", *rates, *rest)[0] == {ADAPTER: beside}


def test_half_precision_reads_captions_alike(tagged: list[str], tmp_path: Path) -> None:
    """An order that was embedded before, and kept, is what it is when it is embedded at a step."""
    words = ["method=dreambooth", "method.prompts=captions", "method.prior_weight=0",
             "precision=bf16"]  # fmt: skip
    sweep = sweep_of(tmp_path, *tagged, *words)
    base = load_base(sweep.cells[0].trajectory.base, base_named(sweep, "sd15"), torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        at_step = base.texts(["UnicornGirl, day"], keep=False).hidden
    kept = base.texts(["UnicornGirl, day"]).hidden
    assert at_step.dtype == kept.dtype == torch.float32
    assert torch.equal(at_step, kept)


# -- the text encoders' own rate -------------------------------------------------------------------


def test_an_equal_rate_changes_no_bit_and_another_the_text_alone(tmp_path: Path) -> None:
    """After one step: the gradients are the same, so only the text encoders' steps differ."""
    words = ["method=lora", "method.text_encoder=true", "train_steps=1", f"lr={RATE}",
             "metric=[score]"]  # fmt: skip
    plain = trained(tmp_path / "plain", *words, step=1)
    equal = trained(tmp_path / "equal", *words, f"method.text_encoder_lr={RATE}", step=1)
    assert equal == plain
    tenth = trained(tmp_path / "tenth", *words, f"method.text_encoder_lr={RATE / 10}", step=1)
    assert tenth[1] == plain[1]  # the loss and the rate that is logged
    first, second = (load(files[0][ADAPTER]) for files in (plain, tenth))
    moved = {name for name in first if "lora_B" in name or "lora.up" in name}
    for name in moved:
        if name.startswith("unet."):
            assert torch.equal(first[name], second[name])
        else:  # B begins with zeros, so that it is what the step has made it
            torch.testing.assert_close(second[name], first[name] / 10, rtol=1e-3, atol=1e-9)
    assert any(not name.startswith("unet.") for name in moved)


def test_resume_states_with_one_group_are_what_they_were(tmp_path: Path) -> None:
    """One of the version before has the name `group` for all it holds."""
    _, store, _ = execute(tmp_path, "train_steps=2", "method.text_encoder=true")
    (numbers,) = store.folder.glob("*/resume/*/numbers.json")
    assert '"group"' in numbers.read_text(encoding="utf-8")
    assert '"group1"' not in numbers.read_text(encoding="utf-8")


# -- own class images ------------------------------------------------------------------------------


@pytest.fixture
def girls(tmp_path: Path) -> Path:
    """Three images of the class, not square, one with a caption."""
    folder = tmp_path / "girls"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (90, 70 + 10 * number), colour).save(folder / f"{number}.png")
    (folder / "1.txt").write_text("a picture of a girl in the snow", encoding="utf-8")
    return folder


PRIOR = ["method.prior_weight=1", "train_steps=3", "metric=[score]"]


@pytest.mark.slow
def test_own_class_images_are_learnt_from_and_none_is_drawn(girls: Path, tmp_path: Path) -> None:
    words = [*PRIOR, f"character.class_images={girls}"]
    sweep, store, (result,) = execute(tmp_path / "own", *words)
    assert result.state == "finished"
    cell = sweep.cells[0]
    assert cell.class_images is None
    assert cell.trajectory.class_images == sweep.character.class_images.key
    assert cell.trajectory.method.settings["class_images"] == 3
    assert sweep.character.class_images.captions == (
        "a picture of a girl", "a picture of a girl in the snow", "a picture of a girl"
    )  # fmt: skip
    _, drawn_store, (drawn,) = execute(tmp_path / "drawn", *PRIOR, "method.class_images=3")
    assert drawn.trajectory != result.trajectory
    sets = [len(list(each.folder.glob("base-*/**/images.json"))) for each in (store, drawn_store)]
    assert sets[1] == sets[0] + 1  # the class images
    (one,), (other,) = (each.folder.glob("*/loss.csv") for each in (store, drawn_store))
    assert [row.loss for row in read_losses(one)] != [row.loss for row in read_losses(other)]
    # elsewhere, and with names of their own, they are the same
    moved = tmp_path / "moved"
    shutil.copytree(girls, moved)
    for name in ("0.png", "1.png", "1.txt", "2.png"):
        (moved / name).rename(moved / f"a{name}")
    assert sweep_of(tmp_path, *PRIOR, f"character.class_images={moved}").cells[0].key == cell.key


def test_another_image_or_caption_is_another_key(
    girls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*PRIOR, f"character.class_images={girls}"]
    keys = [sweep_of(tmp_path, *words).cells[0].trajectory.key]
    (girls / "0.txt").write_text("a girl", encoding="utf-8")
    keys.append(sweep_of(tmp_path, *words).cells[0].trajectory.key)
    Image.new("RGB", (64, 64), "white").save(girls / "0.png")
    keys.append(sweep_of(tmp_path, *words).cells[0].trajectory.key)
    assert len(set(keys)) == 3
    # without prior preservation they are not learnt from, and the plan says so
    plain = [word for word in words if "prior" not in word]
    nothing = [word for word in plain if "class_images" not in word]
    assert sweep_of(tmp_path, *plain).cells[0].key == sweep_of(tmp_path, *nothing).cells[0].key
    assert main(small(tmp_path, *plain, "action=plan")) == 0
    assert "3 of your own, not used: no method" in capsys.readouterr().out
    assert main(small(tmp_path, *words, "action=plan")) == 0
    assert "class images  3 of your own\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", [slow("adapters"), "weights and text"])
def test_own_class_images_are_exact(kind: str, girls: Path, tmp_path: Path) -> None:
    own = [*KINDS[kind], *PRIOR[:1], "metric=[score]", f"character.class_images={girls}",
           f"lr={RATE}", "framing=buckets"]  # fmt: skip
    words = [word for word in own if "method.class_images" not in word]
    whole = trained(tmp_path / "whole", *words, "train_steps=4")
    execute(tmp_path / "parts", *ONE_IMAGE, *words, "train_steps=2")
    assert trained(tmp_path / "parts", *words, "train_steps=4") == whole
    if kind == "adapters":
        rates = [word for word in words if not word.startswith("lr=")]
        beside = trained(tmp_path / "b", *rates, f"+axes.lr=[1e-2,{RATE}]", "train_steps=4")
        assert beside == whole


def test_a_study_notices_other_class_images(
    girls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path, *PRIOR, f"character.class_images={girls}", "runtime.tracking=false")
    assert main(words) == 0
    assert main([*words[:2], "action=check"]) == 0
    assert "nothing" in capsys.readouterr().out
    Image.new("RGB", (64, 64), "white").save(girls / "0.png")
    capsys.readouterr()
    assert main(words) == 2
    assert "own_class_images" in capsys.readouterr().err


# -- what cannot be --------------------------------------------------------------------------------


def test_bad_class_images_are_one_message(girls: Path, tmp_path: Path) -> None:
    (girls / "0.txt").write_text("a picture of UnicornGirl", encoding="utf-8")
    (girls / "2.png").write_bytes(b"no image")
    with pytest.raises(CharacterError) as refused:
        sweep_of(tmp_path, f"character.class_images={girls}")
    message = str(refused.value)
    assert "character.class_images" in message
    assert "2.png" in message
    assert "0.png: its caption holds the identifier UnicornGirl" in message
    (tmp_path / "empty").mkdir()
    with pytest.raises(CharacterError, match="put one drawing or more right into it"):
        sweep_of(tmp_path, f"character.class_images={tmp_path / 'empty'}")


def test_how_many_is_no_axis_of_own_class_images(girls: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all are used; take the axis out"):
        sweep_of(tmp_path, *PRIOR, f"character.class_images={girls}",
                 "+axes={method.class_images:[1,2]}")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (["method.text_encoder_lr=1e-5"], "set method.text_encoder=true, or method.text_enc",
         ["method.text_encoder=true"]),
        (["method.keep_tokens=1"], "set method.shuffle_caption=true, or method.keep_tokens=0",
         ["method.keep_tokens=0"]),
        (["method.shuffle_caption=true"], "no caption has two tags",
         ["method.shuffle_caption=false", "method.keep_tokens=0"]),
        (["method.caption_dropout_rate=1"], "less than 1", ["method.caption_dropout_rate=0.9"]),
        (["method.text_encoder=true", "method.text_encoder_lr=1e-5", "optimizer=prodigy"],
         "one learning rate for all that trains", ["optimizer=adamw"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_one_message(
    words: list[str],
    said: str,
    remedy: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And what the message advises leads to a plan."""
    typed = [*small(tmp_path), *words, "action=plan"]
    assert main(typed) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert main([*typed, *remedy]) == 0
