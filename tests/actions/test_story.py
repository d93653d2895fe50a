"""The story: which pictures are kept and why, what is written, what a second command does."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.small import ONE_IMAGE, loaded_after, pictures, small
from PIL import Image, ImageChops, ImageStat

from charsweep.__main__ import main
from charsweep.actions.stored_cell import stored_images
from charsweep.actions.story.choose_pictures import check_keep, choose_pictures, standings
from charsweep.actions.story.source import draws_halves, find_source
from charsweep.actions.story.tell import prompts_of
from charsweep.config import load_sweep
from charsweep.config.settings.actions import SceneSettings
from charsweep.core.columns import regional
from charsweep.core.errors import ConfigError
from charsweep.core.keys import canonical
from charsweep.core.specs import (
    AdapterSpec,
    BaseSpec,
    ComposedSpec,
    ImageSetSpec,
    SnapshotSpec,
    revived,
)
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.results import read_results

SCENES = [
    "story.scenes=[{prompt: 'a picture of {subject} jumping', caption: 'She jumps.'},"
    "{prompt: 'a picture of {subject} on the beach', caption: 'The sea, {subject}!'}]",
    "story.seeds=[3,1]",
]


def told(root: Path, *words: str) -> int:
    """`action=story` on the small sweep in `root`, with two scenes of two seeds."""
    return main(
        ["action=story", f"root={root}", "name=small", "runtime.tracking=false", *SCENES, *words]
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished sweep of two rates."""
    root = tmp_path_factory.mktemp("story")
    words = small(root, "train_steps=4", "+axes.lr=[1e-3,1e-5]", "runtime.tracking=false")
    assert main(words) == 0
    return root


@pytest.fixture(scope="module")
def story(swept: Path) -> Path:
    """Its story."""
    assert told(swept) == 0
    return swept / "sweeps" / "small" / "story"


# -- choosing --------------------------------------------------------------------------------------


def test_standings_are_distances_in_pooled_deviations() -> None:
    # scene 0: means 2 and 0; scene 1: means 11 and 0; pooled deviation of the first score is 1
    first, second = [1.0, 3.0, 10.0, 12.0], [0.0, 0.0, 0.0, 0.0]
    assert standings([first, second], [0, 0, 1, 1]) == pytest.approx([-1, 1, -1, 1])


def test_both_scores_count_alike_whatever_their_scale() -> None:
    dino, clip_t = [0.1, 0.5, 0.9], [0.32, 0.31, 0.30]
    wide = standings([dino, clip_t], [0, 0, 0])
    assert wide == pytest.approx([0, 0, 0], abs=1e-9)  # one best in each: nobody leads
    assert standings([dino, [10 * t for t in clip_t]], [0, 0, 0]) == pytest.approx(wide, abs=1e-9)


def test_chance_does_not_decide_a_scene_without_differences() -> None:
    # In scene 1 the pictures differ by .001 of DINO: that must not outweigh .1 of CLIP-T.
    dino = [0.2, 0.8, 0.500, 0.501]
    clip_t = [0.6, 0.6, 0.7, 0.6]
    kept = choose_pictures(["a", "b", "c", "d"], [0, 1], dino, clip_t, {})
    assert [choice.chosen.file for choice in kept] == ["b", "c"]


def test_a_person_has_the_last_word() -> None:
    files, dino, clip_t = ["a", "b", "c", "d"], [0.2, 0.8, 0.3, 0.9], [0.2, 0.8, 0.3, 0.9]
    scores_only = choose_pictures(files, [7, 5], dino, clip_t, {})
    kept = choose_pictures(files, [7, 5], dino, clip_t, {2: 7})
    assert [one.chosen.seed for one in scores_only] == [5, 5]
    assert [(one.chosen.seed, one.by_person) for one in kept] == [(5, False), (7, True)]
    assert kept[1].candidates == scores_only[1].candidates


def test_ties_go_to_the_first() -> None:
    kept = choose_pictures(["a", "b"], [4, 2], [0.5, 0.5], [0.5, 0.5], {})
    assert kept[0].chosen.seed == 4


@pytest.mark.parametrize(
    ("keep", "reason"),
    [({3: 1}, "there is no scene 3"), ({0: 1}, "no scene 0"), ({1: 9}, "seed 9 is not drawn")],
)
def test_what_cannot_be_kept_is_refused(keep: dict[int, int], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_keep(keep, 2, [0, 1])


def test_a_scene_whose_character_is_not_read_is_refused(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cell is as it was taught, so the scene has to be written otherwise."""
    hats = ", ".join(f"a red hat {number}" for number in range(12))
    scene = "story.scenes=[{prompt: '%s', caption: x}]"
    assert told(swept, scene % f"{hats}, {{subject}}") == 2
    message = capsys.readouterr().err
    assert "scene 1: the identifier UnicornGirl stands beyond the first 46 tokens" in message
    assert "write it earlier, or make it shorter" in message
    assert "text_chunks" not in message


# -- what is stored --------------------------------------------------------------------------------


def test_specs_come_back_from_their_manifests(swept: Path) -> None:
    sweep = load_sweep(small(swept, "train_steps=4", "method=dreambooth"))
    images, base = sweep.cells[0].images, sweep.cells[0].trajectory.base
    assert base
    adapter = SnapshotSpec(AdapterSpec("0" * 16, base, "mine"), 0)
    for spec in (images, sweep.cells[0].untaught_set, sweep.cells[0].class_images):
        assert spec
        back = revived(ImageSetSpec, json.loads(json.dumps(canonical(spec))))
        assert (back.key, back.snapshot.source.key) == (spec.key, spec.snapshot.source.key)
        assert type(back.snapshot.source) is type(spec.snapshot.source)
    assert revived(SnapshotSpec, canonical(adapter)) == adapter
    with pytest.raises(KeyError, match="BaseSpec: colour"):
        revived(BaseSpec, {**canonical(base), "colour": "red"})


# -- what is written -------------------------------------------------------------------------------


def test_the_story_lies_beside_the_report(story: Path) -> None:
    names = {path.relative_to(story).as_posix() for path in story.rglob("*") if path.is_file()}
    assert names == {"index.html", "story.pdf", "story.json", "scenes/01.png", "scenes/02.png"}
    page = (story / "index.html").read_text()
    assert "A day of UnicornGirl" in page
    assert "The sea, UnicornGirl!" in page
    assert "{subject}" not in page
    assert page.count('class="kept"') == 2
    for outside in ("http:", "https:", 'src="scenes', "<script", "url("):
        assert outside not in page
    assert 'href="../report/index.html"' in page
    assert (story / "../report/index.html").resolve().exists()


def test_the_record_tells_what_was_kept_and_why(swept: Path, story: Path) -> None:
    record = read_json(story / "story.json")
    cells = read_json_lines(swept / "sweeps/small/cells.jsonl")
    best = next(one for one in cells if one["cell"] == record["drawn_by"]["cell"])
    assert record["drawn_by"]["values"] == best["values"]
    assert record["drawn_by"]["scores"] == best["scores"]
    assert [scene["prompt"] for scene in record["scenes"]] == [
        "a picture of UnicornGirl jumping", "a picture of UnicornGirl on the beach",
    ]  # fmt: skip
    images = swept / "sweeps/store" / record["images"]
    for scene in record["scenes"]:
        assert [one["seed"] for one in scene["candidates"]] == [3, 1]
        best_one = max(scene["candidates"], key=lambda one: one["standing"])
        assert (scene["seed"], scene["chosen_by"]) == (best_one["seed"], "scores")
        shown = (story / scene["picture"]).read_bytes()
        assert shown == (images / best_one["file"]).read_bytes()
    scores = {path.name.split("--")[0]: read_json(path) for path in images.glob("scores/*.json")}
    assert scores.keys() == {"dino", "clip_t"}
    flat = [one["dino"] for scene in record["scenes"] for one in scene["candidates"]]
    assert flat == scores["dino"]["per_image"]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_picture_depends_on_prompt_seed_and_weights_alone(swept: Path, story: Path) -> None:
    """The exam asks for one of the scenes with one of the seeds: the same picture, bit for bit."""
    record = read_json(story / "story.json")
    cells = read_json_lines(swept / "sweeps/small/cells.jsonl")
    exam = next(one["images"] for one in cells if one["cell"] == record["drawn_by"]["cell"])
    manifest = read_json(swept / "sweeps/store" / exam / "images.json")
    jumping = record["scenes"][0]
    index = manifest["prompts"].index(jumping["prompt"]) * 2 + manifest["seeds"].index(1)
    with (
        Image.open(swept / "sweeps/store" / exam / f"{index:03d}.png") as asked,
        Image.open(swept / "sweeps/store" / record["images"] / "001.png") as drawn,
    ):
        assert asked.tobytes() == drawn.tobytes()


def test_the_pdf_has_its_pages_pictures_and_words(story: Path, tmp_path: Path) -> None:
    data = (story / "story.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert pages_in(data) == 1
    assert data.count(b"/Subtype/Image") == 2
    assert b"/MediaBox[0 0 595" in data  # A4
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", story / "story.pdf", "-"], capture_output=True, text=True, check=True
        ).stdout
        assert "A day of UnicornGirl" in text
        assert "The sea, UnicornGirl!" in text


def pages_in(data: bytes) -> int:
    return len(re.findall(rb"/Type ?/Page\b(?!s)", data))


def test_a_second_command_draws_nothing_and_changes_nothing(
    swept: Path, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the story is drawn")

    before = {path: path.read_bytes() for path in story.rglob("*") if path.is_file()}
    stored = pictures(swept / "sweeps/store" / read_json(story / "story.json")["images"])
    monkeypatch.setattr("charsweep.engine.local.LocalEngine.__init__", refuse)
    assert told(swept) == 0
    assert {path: path.read_bytes() for path in story.rglob("*") if path.is_file()} == before
    assert pictures(swept / "sweeps/store" / read_json(story / "story.json")["images"]) == stored


def test_laying_out_needs_no_torch(swept: Path, story: Path) -> None:
    words = ["action=story", f"root={swept}", "name=small", "runtime.tracking=false", *SCENES]
    code = f"from charsweep.__main__ import main\nassert main({words!r}) == 0"
    done = loaded_after(f"{code}\nprint()")  # the command's own words come first
    assert "typst" in done
    assert not {"torch", "diffusers", "transformers", "mlflow", "matplotlib"} & done


def test_keep_changes_that_scene_only(swept: Path, story: Path) -> None:
    before = read_json(story / "story.json")
    other = next(seed for seed in (3, 1) if seed != before["scenes"][1]["seed"])
    assert told(swept, f"story.keep={{2: {other}}}") == 0
    after = read_json(story / "story.json")
    assert after["scenes"][0] == before["scenes"][0]
    assert (after["scenes"][1]["seed"], after["scenes"][1]["chosen_by"]) == (other, "story.keep")
    assert "named by a person" in (story / "index.html").read_text()
    assert told(swept) == 0
    assert read_json(story / "story.json") == before


def test_a_cell_can_be_named(swept: Path, story: Path) -> None:
    record = read_json(story / "story.json")
    cells = read_json_lines(swept / "sweeps/small/cells.jsonl")
    other = next(one["cell"] for one in cells if one["cell"] != record["drawn_by"]["cell"])
    assert told(swept, f"story.cell='{other[:8]}'") == 0
    assert read_json(story / "story.json")["drawn_by"]["cell"] == other
    assert told(swept) == 0


def test_words_are_escaped_and_set_as_they_are(swept: Path, story: Path) -> None:
    words = "story.title='<b>$x^$ & \"{subject}\"</b> <script>alert(1)</script>'"
    assert told(swept, words) == 0
    page = (story / "index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;b&gt;$x^$ &amp; &#34;UnicornGirl&#34;" in page
    if shutil.which("pdftotext"):  # `$x^$` would be broken mathematics
        command = ["pdftotext", story / "story.pdf", "-"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert '<b>$x^$&"UnicornGirl"</b><script>alert(1)</script>' in "".join(text.split())
    assert told(swept) == 0


def test_letters_that_the_pdf_lacks_are_said(
    swept: Path,
    story: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("charsweep.report.pages.typesetting.missing_letters", lambda *_: "の一日")
    assert told(swept, "story.title='{subject} の一日'") == 0
    assert "story.pdf: no font here has の一日;" in capsys.readouterr().out
    assert "UnicornGirl の一日" in (story / "index.html").read_text()
    monkeypatch.undo()
    assert told(swept) == 0
    assert "no font" not in capsys.readouterr().out


def test_many_and_long_scenes_flow_over_pages(swept: Path, story: Path) -> None:
    scenes = ",".join(
        f"{{prompt: 'a picture of {{subject}} jumping', caption: '{'very long words ' * n}.'}}"
        for n in range(1, 9)
    )
    assert told(swept, f"story.scenes=[{scenes}]") == 0
    data = (story / "story.pdf").read_bytes()
    assert pages_in(data) == 2
    assert len(list((story / "scenes").iterdir())) == 8
    assert told(swept) == 0


# -- an adapter from elsewhere ---------------------------------------------------------------------


def test_an_adapter_tells_a_story_without_a_sweep(swept: Path, story: Path, tmp_path: Path) -> None:
    record = read_json(story / "story.json")
    images = swept / "sweeps/store" / record["images"]
    adapter = tmp_path / "from_a_friend.safetensors"
    shutil.copyfile(images.parent / ADAPTER_FILE, adapter)
    words = [f"story.adapter={adapter}", "inference_steps=2", "sampler.batch_width=4"]
    assert told(tmp_path / "new", *words) == 0
    folder = tmp_path / "new/sweeps/small/story"
    own = read_json(folder / "story.json")
    assert own["drawn_by"]["adapter"] == str(adapter)
    drawn = tmp_path / "new/sweeps/store" / own["images"]
    for name in pictures(drawn):  # as the cell drew them, but for rounding: not bit for bit
        with Image.open(drawn / name) as one, Image.open(images / name) as other:
            assert max(ImageStat.Stat(ImageChops.difference(one, other)).mean) < 2.0
    assert "from_a_friend.safetensors on sdxl" in (folder / "index.html").read_text()


def test_an_adapter_that_fits_no_base_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import save_file

    bad = tmp_path / ADAPTER_FILE
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file(
        {f"{layer}.lora_A.weight": torch.ones(4, 7), f"{layer}.lora_B.weight": torch.ones(9, 4)},
        bad,
    )
    assert told(tmp_path / "new", f"story.adapter={tmp_path}", "inference_steps=2") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"ModelsError: story.adapter={tmp_path}: it cannot be put on sdxl")


FEW = ["inference_steps=2", "sampler.batch_width=4"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", "lokr"])
def test_adapters_of_other_kinds_tell_stories(kind: str, tmp_path: Path) -> None:
    from helpers.adapters import ATTENTION, base_of, write_adapter

    write_adapter(base_of("sdxl"), tmp_path / "mine", kind, targets=ATTENTION)
    assert told(tmp_path, f"story.adapter={tmp_path / 'mine'}", *FEW) == 0
    record = read_json(tmp_path / "sweeps/small/story/story.json")
    with_it = pictures(tmp_path / "sweeps/store" / record["images"])
    settings = tmp_path / "sweeps/store" / record["images"] / ".." / "adapter_config.json"
    assert settings.exists() == (kind == "lokr")
    plain = tmp_path / "plain"
    write_adapter(base_of("sdxl"), plain, targets=ATTENTION)
    assert told(tmp_path, f"story.adapter={plain}", *FEW) == 0
    record = read_json(tmp_path / "sweeps/small/story/story.json")
    assert with_it != pictures(tmp_path / "sweeps/store" / record["images"])


def test_an_adapter_of_another_base_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers.adapters import ATTENTION, base_of, write_adapter

    write_adapter(base_of("sdxl"), tmp_path / "mine", targets=ATTENTION)
    words = [f"story.adapter={tmp_path / 'mine'}", *FEW]
    assert told(tmp_path / "new", *words, "story.base=sd15") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith(f"ModelsError: {words[0]}: it cannot be put on sd15: ")
    assert not (tmp_path / "new").exists()
    remedy = message.rpartition("give ")[2]
    assert remedy == "story.base=sdxl"
    assert told(tmp_path / "new", *words, remedy) == 0


@pytest.mark.parametrize(("name", "said"), [
    ("words.safetensors", "a textual inversion, which teaches words and no layers"),
    ("lora.pt", "may hold pickled code"),
    ("two", "but one.safetensors, other.safetensors; give the adapter's file itself"),
    ("none", "no .safetensors file"),
])  # fmt: skip
def test_what_is_no_adapter_is_said_before_anything_is_drawn(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"clip_l": torch.zeros(1, 96), "clip_g": torch.zeros(1, 96)},
              tmp_path / "words.safetensors")  # fmt: skip
    (tmp_path / "lora.pt").write_bytes(b"PK")
    (tmp_path / "none").mkdir()
    (tmp_path / "two").mkdir()
    for one in ("one", "other"):
        shutil.copy(tmp_path / "words.safetensors", tmp_path / "two" / f"{one}.safetensors")
    assert told(tmp_path / "new", f"story.adapter={tmp_path / name}", *FEW) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"story.adapter={tmp_path / name}: " in message
    assert said in message
    assert not (tmp_path / "new").exists()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["name=never_run"], "StoreError: there is no sweep never_run in "),
        (["story.keep={2: 9}"], "ConfigError: story.keep={2: 9}: seed 9 is not drawn"),
        (["story.keep={5: 1}"], "ConfigError: story.keep={5: 1}: there is no scene 5"),
        (["story.cell='000000000000'"], "ConfigError: story.cell=000000000000: there is no such"),
        (["story.cell=zebra"], "ConfigError: story.cell=zebra: "),
        (["story.seeds=[1,1]"], "ConfigError: story.seeds=[1, 1]: a value stands there twice"),
        (["story.seeds=[]"], "ConfigError: story.seeds=[]: "),
        (
            ["story.scenes=[{prompt: 'a cat', caption: 'A cat.'}]"],
            "ConfigError: story.scenes.0.prompt=a cat: lacks {subject}",
        ),
        (["story.size=[3]"], "ConfigError: story.size=[3]: should be width and height as multi"),
        (["metric=[dino]", "objectives=[dino]"], "ConfigError: metric=[dino]: "),
        (["story.adapter=nowhere"], "ConfigError: story.adapter=nowhere: there is no "),
        (["story.adapter=x", "story.base=sd3"], "ConfigError: story.base=sd3: "),
        (["axes.story.cell=[1,2]"], "ConfigError: "),
    ],
)
def test_one_clear_error_each(
    swept: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    capsys.readouterr()
    assert told(swept, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(error)
    assert not (swept / "sweeps/never_run").exists()


def test_a_sweep_without_a_finished_cell_is_refused(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweeps" / "small"
    folder.mkdir(parents=True)
    shutil.copyfile(swept / "sweeps/small/sweep.json", folder / "sweep.json")
    assert told(tmp_path) == 2
    assert capsys.readouterr().err.startswith("StoreError: sweep small: No cell has ended yet")


def test_a_method_without_prompts_tells_no_story(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path, "method=gan", "train_steps=2", "runtime.tracking=false")
    assert main(words) == 0
    (made,) = read_json_lines(tmp_path / "sweeps/small/cells.jsonl")
    for chosen, error in {
        "story.cell=null": "StoreError: sweep small: There is no finished cell with a score",
        f"story.cell='{made['cell']}'": f"ConfigError: story.cell={made['cell']}: its method, gan,",
    }.items():
        capsys.readouterr()
        assert told(tmp_path, chosen) == 2
        assert capsys.readouterr().err.startswith(error)


@pytest.mark.slow
def test_a_cell_of_all_weights_tells_a_story_too(tmp_path: Path) -> None:
    words = ["method=dreambooth", "method.prior_weight=0", "lr=1e-4", "train_steps=2"]
    assert main(small(tmp_path, *words, "runtime.tracking=false")) == 0
    assert told(tmp_path) == 0  # neither method nor base are named again
    record = read_json(tmp_path / "sweeps/small/story/story.json")
    assert record["drawn_by"]["values"]["method"] == "dreambooth"
    assert "sd15" in record["images"]


# -- of two characters -----------------------------------------------------------------------------

BEAR_AND_GIRL = ("ThunderBear", "UnicornGirl")
OF_TWO = [
    "story.title='{subject} and {other}'",
    "story.scenes=["
    "{prompt: 'a picture of {other} on the left and {subject} on the right', caption: 'Hello!'},"
    "{prompt: 'a picture of {other} jumping', caption: '{other} jumps for {subject}.'}]",
    "story.size=[1.5,1]",
]
STRENGTHS = {"both": (1, 1), "first": (1, 0), "second": (0, 1)}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A small finished sweep of two characters, taught apart; its cells by who draws."""
    root = tmp_path_factory.mktemp("company")
    words = small(root, *ONE_IMAGE, "method=lora", "train_steps=1", "runtime.tracking=false")
    assert main([*words, "characters=[unicorn_girl,thunder_bear]"]) == 0
    cells = read_json_lines(root / "sweeps/small/cells.jsonl")
    keys = {(one["values"]["strength"], one["values"]["other_strength"]): one["cell"]
            for one in cells}  # fmt: skip
    return root, {who: keys[strengths] for who, strengths in STRENGTHS.items()}


@pytest.fixture(scope="module")
def of_two(company: tuple[Path, dict[str, str]]) -> tuple[dict[str, Any], str]:
    """Its story of both: what story.json says, and the page."""
    root, cells = company
    assert told(root, *OF_TWO, f"story.cell='{cells['both']}'") == 0
    folder = root / "sweeps/small/story"
    with Image.open(folder / "scenes/01.png") as picture:
        assert picture.size == (96, 64)
    return read_json(folder / "story.json"), (folder / "index.html").read_text()


def test_a_story_of_two_shows_and_names_both(of_two: tuple[dict[str, Any], str]) -> None:
    record, page = of_two
    assert record["title"] == "UnicornGirl and ThunderBear"
    assert [record[who]["identifier"] for who in ("character", "other")] == [
        "UnicornGirl", "ThunderBear",
    ]  # fmt: skip
    assert [scene["prompt"] for scene in record["scenes"]] == [
        "a picture of ThunderBear on the left and UnicornGirl on the right",
        "a picture of ThunderBear jumping",
    ]
    assert record["size"] == [96, 64]
    assert "ThunderBear jumps for UnicornGirl." in page
    assert "the lower of the two" in page
    assert "{other}" not in page
    assert 'width="640" height="427"' in page  # as wide as it is


def test_whom_a_scene_asks_for_is_whom_its_pictures_are_compared_with(
    company: tuple[Path, dict[str, str]], of_two: tuple[dict[str, Any], str]
) -> None:
    root, cells = company
    scenes = OF_TWO[1].replace("of {other} jumping", "of {subject} jumping")
    words = [OF_TWO[0], scenes, OF_TWO[2], f"story.cell='{cells['both']}'"]
    assert told(root, *words) == 0
    record = read_json(root / "sweeps/small/story/story.json")
    first, second = (
        [[one["dino"] for one in scene["candidates"]] for scene in story["scenes"]]
        for story in (of_two[0], record)
    )
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_halves_have_words_of_their_own_where_the_cell_drew_so(
    company: tuple[Path, dict[str, str]],
) -> None:
    """Those of the scene, else the whole with who stands there; a scene of one has no halves."""
    root, cells = company
    chosen = f"story.cell='{cells['both']}'"
    sweep = load_sweep(["action=story", f"root={root}", "name=small", *OF_TWO, chosen])
    source = find_source(sweep, Store(root))
    both, alone = ("{other} on the left and {subject} on the right", "{other} jumping")
    told = f"{both} ADDBASE a {{other}} ADDCOL a {{subject}}"
    scenes = [SceneSettings(prompt=prompt, caption="two") for prompt in (both, told, alone)]
    whole = "ThunderBear on the left and UnicornGirl on the right"
    assert prompts_of(scenes, source) == (whole, whole, "ThunderBear jumping")
    first, second, third = map(regional, prompts_of(scenes, replace(source, in_halves=True)))
    assert first == (
        whole, tuple(f"{one} on the left and {one} on the right" for one in BEAR_AND_GIRL)
    )  # fmt: skip
    assert second == (whole, ("a ThunderBear", "a UnicornGirl"))
    assert third == ("ThunderBear jumping", ())


def test_adapters_that_draw_apart_draw_halves_whatever_their_exam_asks(
    company: tuple[Path, dict[str, str]],
) -> None:
    root, cells = company
    store = Store(root)
    cell = read_results(root / "sweeps/small/cells.jsonl")[cells["both"]]
    assert "together" not in cell.parts
    images = stored_images(cell, store)
    source = images.snapshot.source
    assert isinstance(source, ComposedSpec)
    named = zip(source.components, BEAR_AND_GIRL[::-1], strict=True)
    apart = replace(source, components=tuple(replace(one, called=name) for one, name in named))
    assert not draws_halves(cell, images, store)
    snapshot = replace(images.snapshot, source=apart)
    assert draws_halves(cell, replace(images, snapshot=snapshot), store)


def test_a_cell_of_two_tells_a_story_of_one(company: tuple[Path, dict[str, str]]) -> None:
    root, cells = company
    assert told(root, f"story.cell='{cells['both']}'") == 0
    record = read_json(root / "sweeps/small/story/story.json")
    assert (record["title"], record["other"]) == ("A day of UnicornGirl", None)
    assert record["size"] == [64, 64]
    assert "lower of the two" not in record["rule"]


@pytest.mark.parametrize(("who", "lacks"), [("first", "{other}"), ("second", "{subject}")])
def test_a_cell_of_one_of_two_draws_not_the_other(
    company: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str], who: str, lacks: str
) -> None:
    root, cells = company
    assert told(root, *OF_TWO, f"story.cell='{cells[who]}'") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith(f"ConfigError: scene 1 asks for {lacks}, ")
    assert f"cell {cells[who]} draws " in message
    assert "story.cell=" in message


def test_a_story_of_two_needs_two(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert told(swept, *OF_TWO) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("ConfigError: story.title asks for {other}, and cell ")
    assert "draws UnicornGirl alone" in message
    assert "+sweep=company" in message


@pytest.mark.slow
def test_one_adapter_of_both_tells_the_story_that_ships(tmp_path: Path) -> None:
    words = ["method=lora", "train_steps=1", "company=together", "runtime.tracking=false"]
    taught = [*words, "characters=[unicorn_girl,thunder_bear]"]
    assert main(small(tmp_path, *ONE_IMAGE, *taught)) == 0
    story = ["action=story", "name=small", f"root={tmp_path}", "story=two_friends"]
    assert main([*story, "story.seeds=[0]", "runtime.tracking=false"]) == 0
    record = read_json(tmp_path / "sweeps/small/story/story.json")
    assert len(record["scenes"]) == 6
    assert all("ThunderBear" in scene["prompt"] for scene in record["scenes"])


# -- MLflow ----------------------------------------------------------------------------------------


def test_the_story_is_a_run_of_the_sweeps_experiment(swept: Path, story: Path) -> None:
    tracked = "runtime.tracking=true"
    assert told(swept, tracked) == 0
    first = _runs(swept)
    assert [(name, status) for _, name, status, _ in first] == [
        ("story: A day of UnicornGirl", "FINISHED")
    ]
    assert first[0][3] == "small"
    assert told(swept, tracked) == 0
    assert _runs(swept) == first  # logged already
    seed = read_json(story / "story.json")["scenes"][0]["seed"]
    assert told(swept, tracked, f"story.keep={{1: {4 - seed}}}") == 0
    assert len(_runs(swept)) == 1
    assert _runs(swept) != first
    with sqlite3.connect(swept / "mlflow.db") as database:
        (steps,) = database.execute(
            "select count(*) from metrics join runs using (run_uuid) "
            "where key = 'story_dino' and lifecycle_stage = 'active'"
        ).fetchone()
        tags = database.execute("select key from tags").fetchall()
    assert steps == 2
    assert ("charsweep.sweep",) not in tags  # by that the sweep's own runs are known
    assert list(swept.glob("mlruns/*/*/artifacts/story/scenes/02.png"))
    assert told(swept) == 0


def _runs(root: Path) -> list[tuple[str, str, str, str]]:
    with sqlite3.connect(root / "mlflow.db") as database:
        return database.execute(
            "select run_uuid, runs.name, status, experiments.name from runs "
            "join experiments using (experiment_id) where runs.lifecycle_stage = 'active'"
        ).fetchall()
