"""Whatever is typed or given: a plan, or one message and exit code 2, soon, and nothing written.

The same examples every time. `make test-all` tries twenty times as many.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from helpers import fuzzing
from helpers.small import command
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from charsweep.models import embedded

MORE = pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id="many")
FEW_AND_MORE = pytest.mark.parametrize("times", [pytest.param(1, id="few"), MORE])
DRAWINGS = embedded.FOLDER / "unicorn_girl"
WEIGHTS = embedded.FOLDER / "weights"


def examples(count: int) -> settings:
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to stand in, with nothing in it but what a test gives; nothing may be added."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    yield tmp_path
    assert list(cwd.iterdir()) == []
    assert not (tmp_path / "root").exists()


def refused_by_run(words: list[str], said: str, place: Path) -> None:
    """What planning refuses, running refuses too, with the same words and before it writes.

    Of every five cases one, chosen by its content: composing takes most of the time.
    """
    if sum(map(ord, said)) % 5:
        return
    before = fuzzing.tree(place)
    ran = fuzzing.outcome(*words, "action=run", f"root={place / 'root'}")
    assert (ran.code, ran.message.split("given:")[0]) == (2, said.split("given:")[0])
    assert fuzzing.tree(place) == before


# -- the command line and all settings -------------------------------------------------------------


@FEW_AND_MORE
@pytest.mark.parametrize(
    ("words_typed", "count"),
    [
        (fuzzing.settings_typed(), 15),
        (fuzzing.axes_typed(), 10),
        (fuzzing.groups_typed(), 10),
        (fuzzing.forms_typed(), 15),
    ],
    ids=["settings", "axes", "groups", "forms"],
)
def test_whatever_is_typed(
    words_typed: st.SearchStrategy[list[str]], count: int, times: int, place: Path
) -> None:
    seen: dict[int, int] = {0: 0, 2: 0}

    @examples(count * times)
    @given(words_typed)
    def check(words: list[str]) -> None:
        before = fuzzing.tree(place)
        planned = fuzzing.outcome(*words, "action=plan", f"root={place / 'root'}")
        assert fuzzing.tree(place) == before
        seen[planned.code] += 1
        if planned.code == 2:
            refused_by_run(words, planned.message, place)

    check()
    assert seen[2] > count / 3


@FEW_AND_MORE
def test_what_a_message_says_to_do_leads_on(times: int, place: Path) -> None:
    """To a plan, or to another message; never back to one that was there before."""
    followed = [0]

    @examples(15 * times)
    @given(fuzzing.mistakes_typed())
    def check(words: list[str]) -> None:
        said: list[str] = []
        for _ in range(8):
            planned = fuzzing.outcome(*words, "action=plan", f"root={place / 'root'}")
            if planned.code == 0:
                return
            assert planned.message not in said, (words, said)
            said.append(planned.message)
            lines = planned.message.splitlines()
            ways = (new for line in lines if (new := fuzzing.mended(words, line)) is not None)
            if (mended := next(ways, None)) is None:
                return
            assert mended != words, (words, planned.message)
            words, followed[0] = mended, followed[0] + 1
        raise AssertionError(f"no end of mending: {words}, {said}")

    check()
    assert followed[0] > 15 * times


OTHERS = ["report", "export", "caption", "story", "ui", "check", "gc", "show", "why"]


@FEW_AND_MORE
def test_every_action_refuses(times: int, place: Path) -> None:
    """There is no store, no sweep, no picture and no server: no action has anything to do."""

    @examples(15 * times)
    @given(st.sampled_from(OTHERS), fuzzing.words_typed)
    def check(action: str, words: list[str]) -> None:
        before = fuzzing.tree(place)
        nowhere = [f"root={place / 'root'}", "character=folder", "character.images=no/such/folder"]
        done = fuzzing.outcome(*words, f"action={action}", *nowhere)
        assert done.code == 2 or any(word.startswith(("--help", "-h")) for word in words)
        assert fuzzing.tree(place) == before

    check()


def test_the_walk_finds_the_settings() -> None:
    """The walk is not empty-handed: names at every depth, with their limits."""
    known = fuzzing.settings_of()
    assert {"lr", "method.rank", "runtime.port", "models.bases.sdxl.path", "metric.dino._target_",
            "story.seeds", "caption.attributes.hair.words"} <= set(known)  # fmt: skip
    assert {1024, 1025, 1, 0} <= set(
        filter(lambda v: type(v) is int, fuzzing.at_the_limits(known["method.rank"]))
    )
    assert 65536 in fuzzing.at_the_limits(known["runtime.port"])
    assert "plan" in fuzzing.at_the_limits(known["action"])


# -- folders of images -----------------------------------------------------------------------------

NAMES = ["a.png", "b.jpg", "c.webp", "a.txt", "b.txt", "metadata.jsonl", "a-mask.png",
         ".hidden.png", "é.PNG", "x y'\".png", "a" * 200 + ".png", "10.png", "sub/d.png",
         "notes.md", "a.gif",
         "Thumbs.db", "-rf.png", "${lr}.png", "<b>.png", "a.png.png", "b-mask.png"]  # fmt: skip


def picture(form: str, size: tuple[int, int], mode: str) -> bytes:
    with BytesIO() as file:
        Image.new(mode, size).save(file, form)
        return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header says that it is so large, and that holds no pixel."""
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


whole = st.builds(
    picture, st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    st.sampled_from([(64, 64), (1, 1), (31, 64), (33, 500), (32, 32)]),
    st.sampled_from(["RGB", "L"]),
)  # fmt: skip
files = st.one_of(
    whole, whole,
    st.builds(lambda data, cut: data[: len(data) * cut // 10], whole, st.integers(0, 10)),
    st.builds(lambda data, at, new: data[:at] + new + data[at + len(new):], whole,
              st.integers(0, 80), st.binary(min_size=1, max_size=8)),
    st.builds(claiming, st.sampled_from([0, 1, 50_000, 2**31 - 1]),
              st.sampled_from([0, 1, 50_000])),
    st.binary(max_size=60), st.text(max_size=40).map(lambda text: text.encode("utf-16")),
    st.sampled_from(["a girl", "", " \n ", "\ufeffa girl", "a\0b", "<script>"]).map(str.encode),
    st.sampled_from(['{"file_name": "a.png", "text": "x"}', '{"file_name": "../a.png", "text": ""}',
                     '{"file_name": 1}', "[]", "{", "null", '{"text": NaN}', "[" * 5000,
                     '{"file_name": "a\\u0000.png", "text": "x"}', "9" * 5000]).map(str.encode),
)  # fmt: skip


@FEW_AND_MORE
def test_whatever_lies_in_the_folder_of_images(times: int, place: Path) -> None:
    images = place / "images"

    @examples(13 * times)
    @given(
        st.dictionaries(st.sampled_from(NAMES), files, max_size=5),
        st.sampled_from(["null", "file", "alpha"]),
        st.sampled_from([images, images / "a.png", images / "none", place / "cwd"]),
    )
    def check(given_files: dict[str, bytes], masks: str, given_as: Path) -> None:
        empty(images)
        for name, data in given_files.items():
            (images / name).parent.mkdir(parents=True, exist_ok=True)
            (images / name).write_bytes(data)
        before = fuzzing.tree(place)
        words = ["character=folder", f"character.images={given_as}", f"character.masks={masks}"]
        planned = fuzzing.outcome(*words, "action=plan", f"root={place / 'root'}")
        assert fuzzing.tree(place) == before
        if planned.code == 2:
            assert str(given_as) in planned.message or "character." in planned.message
            refused_by_run(words, planned.message, place)

    check()


def empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.mkdir(exist_ok=True)


# -- files and folders of weights ------------------------------------------------------------------

TENSORS = ["model.diffusion_model.input_blocks.0.0.weight",
           "first_stage_model.decoder.conv_in.weight",
           "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", "v_pred",
           "conditioner.embedders.1.model.token_embedding.weight", "lora_unet_x.lora_up.weight",
           "joint_blocks.0.x", "", "__metadata__", "é", "a" * 3000]  # fmt: skip
entry = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I4", "", None, 7]),
        "shape": st.one_of(st.lists(st.integers(-1, 9), max_size=4), st.sampled_from(fuzzing.ODD)),
        "data_offsets": st.one_of(st.just([0, 4]), st.lists(st.integers(-9, 2**65), max_size=3)),
    },
)


def tensors(header: Any, length: int, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", max(0, len(text) + length)) + text + data


weights_files = st.one_of(
    st.builds(tensors, st.dictionaries(st.sampled_from(TENSORS), entry, max_size=3),
              st.sampled_from([0, 0, 0, -1, 5, 10**9]), st.binary(max_size=40)),
    st.builds(tensors, st.dictionaries(
                  st.sampled_from(TENSORS[:8]),
                  st.just({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}), max_size=1),
              st.just(0), st.sampled_from([b"", b"1234"])),
    st.binary(max_size=60),
    st.sampled_from([b"", b"<!doctype html>", b"\x80\x04\x95", b"PK\x03\x04",
                     b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"]),
)  # fmt: skip
indices = st.one_of(
    st.sampled_from(['{"_class_name": "StableDiffusionXLPipeline"}', "{", "[]", "null", "9", "",
                     '{"_class_name": 7}', '{"_class_name": "FluxPipeline"}', "[" * 5000,
                     "\ufeff{}",
                     '{"_class_name": "StableDiffusionXLPipeline", "unet": ["os", "system"]}',
                     '{"_class_name": "StableDiffusionPipeline", "vae": []}']).map(str.encode),
    st.binary(max_size=20),
)  # fmt: skip
PLACES = ["mine.safetensors", "mine.ckpt", "mine", "folder/model_index.json",
          "folder/unet/config.json",
          "folder/unet/diffusion_pytorch_model.safetensors", "folder/vae/config.json",
          "folder/vae/diffusion_pytorch_model.safetensors", "folder/a.safetensors",
          "folder/open_clip_config.json", "folder/unet/model_index.json"]  # fmt: skip
GIVEN_AS = ["models.bases.sdxl.path", "models.bases.sdxl.vae", "models.encoders.clip.path",
            "models.encoders.dino.path"]  # fmt: skip


@FEW_AND_MORE
def test_whatever_is_given_as_weights(times: int, place: Path) -> None:
    folder = place / "given"

    @examples(13 * times)
    @given(
        st.dictionaries(st.sampled_from(PLACES), st.one_of(weights_files, indices), max_size=4),
        st.sampled_from(GIVEN_AS),
        st.sampled_from(["mine.safetensors", "mine.ckpt", "mine", "folder", "folder/unet", "none"]),
    )
    def check(given_files: dict[str, bytes], setting: str, name: str) -> None:
        from charsweep.models.safetensors_file import _metadata, _shapes
        from charsweep.models.weights import _digest_of_file, weights_digest

        for cached in (_shapes, _metadata, weights_digest, _digest_of_file):
            cached.cache_clear()  # a process that a person starts has seen no file yet
        empty(folder)
        for one, data in given_files.items():
            (folder / one).parent.mkdir(parents=True, exist_ok=True)
            (folder / one).write_bytes(data)
        before = fuzzing.tree(place)
        words = [f"{setting}={folder / name}"]
        planned = fuzzing.outcome(*words, "action=plan", f"root={place / 'root'}")
        assert fuzzing.tree(place) == before
        if planned.code == 2:
            assert str(folder) in planned.message
            refused_by_run(words, planned.message, place)

    check()


# -- a process of its own --------------------------------------------------------------------------


@FEW_AND_MORE
def test_a_process_of_its_own(times: int, place: Path) -> None:
    """Nothing of the above hangs on being called from Python: neither streams nor exit codes."""

    @examples(4 * times)
    @given(fuzzing.words_typed)
    def check(words: list[str]) -> None:
        words = [word.replace("\0", "") for word in words]
        words = [word for word in words if word.isascii()] or ["lr=é"]
        before = fuzzing.tree(place)
        done = command(*words, "action=plan", f"root={place / 'root'}", cwd=place / "cwd")
        fuzzing.checked(fuzzing.Outcome(done.returncode, done.stdout, done.stderr))
        assert fuzzing.tree(place) == before

    check()
