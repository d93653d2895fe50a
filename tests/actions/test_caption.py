"""What `action=caption` proposes, how often it is right, and that it writes over nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from helpers.small import loaded_after
from PIL import Image
from tokenizers import Tokenizer

from charsweep.__main__ import main
from charsweep.actions.caption.proposal import Reader
from charsweep.actions.caption.propose import HAS_ITS_OWN, NOTHING, captioner_of, propose
from charsweep.actions.caption.wording import about_character, without_looks
from charsweep.actions.caption.write import write_new
from charsweep.config import load_settings, load_sweep
from charsweep.config.variants import character_of
from charsweep.core.errors import CharacterError, ConfigError, ModelsError
from charsweep.core.specs import CharacterSpec
from charsweep.models import embedded
from charsweep.models.pipeline import quiet
from pretraining import data
from pretraining.captions import ARM_WORDS, EYE_WORDS, LEG_WORDS, MOUTH_WORDS, PLACE_WORDS
from pretraining.world import (
    DRAWINGS,
    EXAM,
    UNICORN_GIRL,
    Figure,
    draw,
    random_scene,
)

HERS = "character.identifier=UnicornGirl"
TRUE_WORDS = {
    "position": ("legs", LEG_WORDS),
    "arms": ("arms", ARM_WORDS),
    "place": ("place", PLACE_WORDS),
    "eyes": ("eyes", EYE_WORDS),
    "mood": ("mouth", MOUTH_WORDS),
}


def words(folder: Path, *more: str) -> list[str]:
    return ["action=caption", "character=folder", f"character.images={folder}", HERS,
            "character.class_noun=girl", *more]  # fmt: skip


def captions(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """The six drawings without their captions."""
    folder = tmp_path / "drawings"
    ignored = shutil.ignore_patterns("*.txt", "masks")
    shutil.copytree(embedded.UNICORN_GIRL, folder, ignore=ignored)
    return folder


# -- how often it is right -------------------------------------------------------------------------


def readers(nouns: set[str]) -> dict[str, Reader]:
    settings = load_settings(["action=caption"])
    captioner, spec = captioner_of(settings.caption), character_of(settings).spec
    return {noun: captioner.open(settings, replace(spec, class_noun=noun)) for noun in nouns}


def tally(figures: list[Figure]) -> tuple[Counter[str], Counter[str]]:
    """By attribute, how many answers are sure, and how many of those right."""
    read = readers({figure.species for figure in figures})
    sure: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for figure in figures:
        for answer in read[figure.species](draw(figure, 64)).because.split(", "):
            name, _, said = answer.partition(": ")
            if not said.endswith("(unsure)"):
                field, true = TRUE_WORDS[name]
                sure[name] += 1
                right[name] += said.rpartition(" ")[0] in true[getattr(figure, field)]
    return sure, right


@pytest.mark.parametrize("who", ["unicorn", "others"])
def test_position_and_place_are_read_rightly(who: str) -> None:
    """Floors below what 800 drawings gave: see `charsweep.actions.caption.zero_shot`."""
    figures = [
        random_scene(UNICORN_GIRL, Random(f"captioned-{index}")) if who == "unicorn"
        else data.figure(data.HELD_OUT_SEED, 30_000 + index)
        for index in range(100)
    ]  # fmt: skip
    sure, right = tally(figures)
    for name in ("position", "place", "eyes", "arms"):
        assert sure[name] >= 90, (name, sure, right)
        assert right[name] >= 0.97 * sure[name], (name, sure, right)
    assert right["position"] >= 0.99 * sure["position"]
    assert right["place"] >= 0.99 * sure["place"]
    assert 2 <= sure["mood"] <= 40  # seldom sure, as it should be
    assert right["mood"] >= sure["mood"] - 1


@pytest.mark.parametrize("pictures", ["drawings", "exam"])
def test_captions_of_the_true_pictures(pictures: str, tmp_path: Path) -> None:
    """Every caption of the six drawings and of the eight exam pictures, word for word."""
    folders = {"drawings": embedded.UNICORN_GIRL, "exam": embedded.UNICORN_GIRL_EXAM}
    for path in folders[pictures].glob("*.png"):
        shutil.copy(path, tmp_path)
    found = propose(words(tmp_path, "caption.write=false"))
    figures = [figure for _, figure in (DRAWINGS if pictures == "drawings" else EXAM)]
    assert [one.proposal.caption for one in found] == [true_caption(one) for one in figures]


def true_caption(figure: Figure) -> str:
    parts = [LEG_WORDS[figure.legs][0], ARM_WORDS[figure.arms][0], PLACE_WORDS[figure.place][0],
             EYE_WORDS[figure.eyes][0]]  # fmt: skip
    return " ".join(["a picture of UnicornGirl", *filter(None, parts)])


# -- what is written -------------------------------------------------------------------------------


def test_captions_are_written_and_taught_and_a_persons_own_are_kept(
    drawings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drawings / "02.txt").write_text("my own words")
    (drawings / "03.TXT").write_text("mine too\n")
    row = json.dumps({"file_name": "04.png", "text": "from a table"})
    (drawings / "metadata.jsonl").write_text(row)
    before = {path.name: path.read_bytes() for path in drawings.iterdir()}
    assert main(words(drawings)) == 0
    table = capsys.readouterr().out
    assert table.count("│ written") == 3
    assert table.count("│ kept: it has a caption") == 3
    assert f"captions written to {drawings}: 3." in table
    assert captions(drawings) == {
        "01.txt": "a picture of UnicornGirl standing on a white background\n",
        "02.txt": "my own words",
        "05.txt": "a picture of UnicornGirl standing on the beach\n",
        "06.txt": "a picture of UnicornGirl standing in a room\n",
    }
    after = {path.name: path.read_bytes() for path in drawings.iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3  # nothing temporary is left
    taught = load_sweep(words(drawings)[1:]).character.spec.captions
    assert taught[:4] == (
        "a picture of UnicornGirl standing on a white background",
        "my own words",
        "mine too",
        "from a table",
    )
    (drawings / "05.txt").write_text("mended by hand")
    (drawings / "06.txt").unlink()
    found = {one.image: one.state for one in propose(words(drawings))}
    assert Counter(found.values()) == {HAS_ITS_OWN: 5, "written": 1}
    assert captions(drawings)["05.txt"] == "mended by hand"
    assert "a room" in captions(drawings)["06.txt"]


def test_looking_only_writes_nothing(drawings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(drawings, "caption.write=false")) == 0
    assert "a picture of UnicornGirl standing on the beach" in capsys.readouterr().out
    assert captions(drawings) == {}


def test_drawings_of_the_package_are_only_shown(
    drawings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = f"models.encoders.clip.path={embedded.WEIGHTS / 'clip'}"
    monkeypatch.setattr(embedded, "FOLDER", drawings.parent)
    assert {one.state for one in propose(words(drawings, clip))} == {"shown only"}
    assert "came with charsweep and is not written to" in capsys.readouterr().out
    assert captions(drawings) == {}


def test_what_is_not_sure_is_not_said(drawings: Path) -> None:
    found = propose(words(drawings, "caption.sure=1", "attributes.mood.sure=1"))
    assert {one.state for one in found} == {NOTHING}
    assert captions(drawings) == {}


def test_looks_are_left_out_unless_asked_for(drawings: Path) -> None:
    plain = propose(words(drawings, "caption.write=false"))
    asked = propose(
        words(drawings, "caption.write=false", "caption.describe_character=true",
              "attributes.clothes.words=[wearing a dress,wearing overalls]",
              "caption.sure=0.5")
    )  # fmt: skip
    assert not any("hair" in one.proposal.because for one in plain)
    assert all("hair: " in one.proposal.because for one in asked)
    assert asked[0].proposal.caption is not None
    assert "UnicornGirl wearing a dress standing" in asked[0].proposal.caption


def test_a_vocabulary_of_ones_own(drawings: Path, tmp_path: Path) -> None:
    own = tmp_path / "conf" / "caption"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "name: mine\n_target_: charsweep.actions.caption.zero_shot.ZeroShot\nwrite: true\n"
        "describe_character: false\nsure: 0.8\ntemplates: ['{subject} {words}']\n"
        "attributes:\n  where: {words: [on the beach, in a room, on a white background],"
        " unsaid: [on a white background]}\n"
    )
    propose(words(drawings, "--config-dir", str(own.parent), "caption=mine"))
    assert captions(drawings) == {
        "05.txt": "a picture of UnicornGirl on the beach\n",
        "06.txt": "a picture of UnicornGirl in a room\n",
    }


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_new_or_not_written(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # FAT knows none

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "01.txt"
    assert write_new(path, "first\n")
    assert not write_new(path, "second\n")
    assert path.read_text() == "first\n"
    assert [file.name for file in tmp_path.iterdir()] == ["01.txt"]


# -- what cannot be --------------------------------------------------------------------------------


def test_images_that_would_share_a_caption(drawings: Path) -> None:
    with Image.open(drawings / "01.png") as picture:
        picture.save(drawings / "01.webp")
    with pytest.raises(CharacterError, match=r"01\.png and 01\.webp would share the caption"):
        propose(words(drawings))


def test_a_folder_that_cannot_be_written(drawings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(CharacterError, match=r"caption\.write=false to look only"):
        propose(words(drawings))
    assert propose(words(drawings, "caption.write=false"))[0].state == "shown only"


def test_mistakes_are_named_before_torch_is_loaded(drawings: Path) -> None:
    wrong = {
        "caption.sure=0.3": "caption.sure=0.3: should be greater than or equal to 0.5",
        "caption.templates=[a picture]": "lacks {subject}",
        "attributes.arms.unsaid=[waving]": "waving is not among the words",
        "attributes.place.words=[at sea]": "at least 2 items",
        "+caption.threshold=1": "caption.threshold=1: ZeroShot takes no threshold; take it out",
        "caption._target_=pathlib.Path": "none of the packages that plug-ins are taken from",
        "caption._target_=charsweep.evaluate.metrics.colour.Colour": "is no captioner",
    }
    for word, message in wrong.items():
        with pytest.raises(ConfigError) as error:
            propose(words(drawings, word))
        assert message in str(error.value), word
    code = (
        "from charsweep.actions.caption.propose import propose\n"
        f"try: propose({words(drawings, 'caption.sure=0.3')!r})\nexcept Exception: pass"
    )
    assert not {"torch", "transformers", "open_clip"} & loaded_after(code)


def test_models_without_a_clip(drawings: Path) -> None:
    with pytest.raises(ConfigError, match=r"give one as models\.encoders\.clip\.path"):
        propose(words(drawings, "~models.encoders.clip"))


# -- a captioner's own words -----------------------------------------------------------------------

GIRL = CharacterSpec("", (), (), "Miavex", "girl", "a picture of Miavex", "a picture of a girl")
LOOKS = ["hair", "dress", "horn", "wearing"]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("a picture of a girl sitting on the beach", "a picture of Miavex sitting on the beach"),
        ("a drawing of a little cartoon girl in a room.", "a picture of Miavex in a room"),
        ("The girl with long red hair is on a swing", "a picture of Miavex on a swing"),
        ("a girl with a horn and a red dress jumping in the snow",
         "a picture of Miavex jumping in the snow"),
        ("a girl is sitting in a room", "a picture of Miavex sitting in a room"),
        ("a girl in a dress and holding a flower", "a picture of Miavex holding a flower"),
        ("a girl sitting on a bench with rainbow hair and smiling",
         "a picture of Miavex sitting on a bench smiling"),
        ("on the beach, a girl standing", "a picture of Miavex standing, on the beach"),
        ("a unicorn on the beach", "a picture of Miavex, a unicorn on the beach"),
        ("a picture of a girl with red hair", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_sentence_about_the_character(told: str, wanted: str | None) -> None:
    assert about_character(told, GIRL, LOOKS) == wanted


def test_looks_that_are_kept() -> None:
    told = "a girl with a horn and a red dress jumping"
    assert about_character(told, GIRL) == "a picture of Miavex with a horn and a red dress jumping"
    assert without_looks("under a tree and in the sun", LOOKS) == "under a tree and in the sun"


# -- a captioner from the hub ----------------------------------------------------------------------

TAUGHT = {
    "blue": "a picture of a girl with red hair sitting on the beach",
    "white": "a picture of a girl wearing a red dress jumping in the snow",
}


def save_captioner(folder: Path) -> None:
    """A tiny BLIP that has learned to caption a blue and a white picture, as the hub has them."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = [*special, *dict.fromkeys(" ".join(TAUGHT.values()).split())]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(known)})
    begin = len(known)  # [DEC] and [ENC] are in BLIP's network, not in its tokenizer
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "projection_dim": 32}  # fmt: skip
    ends = {"bos_token_id": begin, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config={**small, **ends, "vocab_size": begin + 2, "encoder_hidden_size": 32,
                     "max_position_embeddings": 32},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=32, image_text_hidden_size=32,
    )  # fmt: skip
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    torch.manual_seed(0)
    network = BlipForConditionalGeneration(config)
    pictures = [Image.new("RGB", (64, 64), colour) for colour in TAUGHT]
    pixels = processor.image_processor(images=pictures, return_tensors="pt").pixel_values
    rows = [[begin, *tokenizer(t, add_special_tokens=False).input_ids, 3] for t in TAUGHT.values()]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = tokens.masked_fill(tokens == 0, -100)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(100):
        loss = network(pixel_values=pixels, input_ids=tokens,
                       attention_mask=(tokens != 0).long(), labels=labels).loss  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with quiet():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioner")
    save_captioner(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in TAUGHT:
        Image.new("RGB", (80, 60), colour).save(folder / f"{colour}.png")
    return folder


def by_blip(pictures: Path, captioner: Path | str, *more: str) -> list[str]:
    return words(pictures, "caption=blip", f"caption.path={captioner}", *more)


def test_a_captioner_of_the_hub_s_kind(pictures: Path, captioner: Path) -> None:
    assert main(by_blip(pictures, captioner, "runtime.device=cpu")) == 0
    assert captions(pictures) == {
        "blue.txt": "a picture of UnicornGirl sitting on the beach\n",
        "white.txt": "a picture of UnicornGirl jumping in the snow\n",
    }
    whole = propose(by_blip(pictures, captioner, "caption.describe_character=true"))
    assert [one.proposal.caption for one in whole] == [
        "a picture of UnicornGirl with red hair sitting on the beach",
        "a picture of UnicornGirl wearing a red dress jumping in the snow",
    ]
    free = propose(by_blip(pictures, captioner, "caption.prompt=''", "caption.beams=1"))
    assert [one.proposal.because for one in free] == list(TAUGHT.values())


def test_a_captioner_in_the_hubs_cache_needs_no_network(
    pictures: Path, captioner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "cache" / "models--someone--captioner" / "snapshots" / commit
    shutil.copytree(captioner, cached)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    propose(by_blip(pictures, f"someone/captioner@{commit}"))
    assert captions(pictures)["blue.txt"] == "a picture of UnicornGirl sitting on the beach\n"


def test_a_captioner_that_cannot_be_fetched(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelsError) as error:
        propose(words(pictures, "caption=blip"))
    message = str(error.value)
    assert "Salesforce/blip-image-captioning-large@353689b" in message
    assert "hf download Salesforce/blip-image-captioning-large --revision 353689b" in message
    assert "caption.path=FOLDER" in message
    assert "caption=zero_shot" in message
    assert captions(pictures) == {}


def test_captioners_that_cannot_be_used(pictures: Path, captioner: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def changed(name: str) -> Path:
        return Path(shutil.copytree(captioner, tmp_path / name))

    pickled = changed("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    lacking = changed("lacking")
    tensors = load_file(lacking / "model.safetensors")
    lost = next(name for name in tensors if "vision_model" in name)
    del tensors[lost]
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    foreign = changed("foreign")
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {
        "AutoConfig": "theirs.Config", "AutoModelForImageTextToText": "theirs.Model"}}  # fmt: skip
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "theirs.py").write_text("raise SystemExit('remote code ran')")
    wordless = changed("wordless")
    tokenizer = Tokenizer.from_file(str(wordless / "tokenizer.json"))
    vocabulary = json.loads(tokenizer.to_str())
    vocabulary["model"]["vocab"] = {"[UNK]": 1, "[PAD]": 0}
    (wordless / "tokenizer.json").write_text(json.dumps(vocabulary))
    cases = {
        pickled: "only pytorch_model.bin and the like",
        lacking: "lacks 1 tensors of a BlipForConditionalGeneration",
        foreign: "cannot be loaded as a captioner",
        wordless: "its tokenizer knows",
        embedded.WEIGHTS / "dino": "cannot be loaded as a captioner",
        captioner / "model.safetensors": "is a file: give its folder",
        tmp_path / "model.ckpt": "may hold pickled code",
    }
    for path, message in cases.items():
        with pytest.raises(ModelsError, match=message):
            propose(by_blip(pictures, path))
    assert captions(pictures) == {}
