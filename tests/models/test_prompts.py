"""What bases read of prompts: token for token, in chunks, from which layer; and what is cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import base_named, execute, loaded_after, pictures, small, sweep_of
from helpers.tiny_sd3 import write_sd3
from transformers import CLIPTextModel

from charsweep.__main__ import main
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.seeding import generator
from charsweep.core.specs import Plugin
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models import embedded
from charsweep.models.clip_tokenizer import clip_tokenizer
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.prompt_tokens import PromptReader, readers_of
from charsweep.models.weights import find_base

WEIGHTS = embedded.FOLDER / "weights"
CPU = torch.device("cpu")
FAMILIES = {"sd15": "StableDiffusion", "sdxl": "StableDiffusionXL"}
LONG = ", ".join(f"a red hat {number}" for number in range(12))  # 71 tokens; 46 are read
TEXTS = ["", "a picture of UnicornGirl", LONG, "Éva's ミア, (smile:1.2) 漢字\n don't", "👍 1girl…"]


def base_at(path: Path, **settings: Any) -> LoadedPipeline:
    plugin = Plugin(path.name, FAMILIES[path.name], 1, settings)
    weights = find_base(str(path), path.parent, plugin)
    return load_base(weights.spec, weights, CPU)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plain(name: str) -> LoadedPipeline:
    return base_at(WEIGHTS / name)


@pytest.fixture(scope="module")
def chunked(name: str) -> LoadedPipeline:
    return base_at(WEIGHTS / name, text_chunks=3)


# -- counting --------------------------------------------------------------------------------------


def test_tokens_are_counted_as_the_base_has_them(plain: LoadedPipeline, name: str) -> None:
    weights = find_base(str(WEIGHTS / name), WEIGHTS, plain.spec.family)
    readers = readers_of(weights)
    assert [reader.name for reader in readers] == list(plain.family.encoders)
    for reader, tokenizer in zip(readers, plain.tokenizers, strict=True):
        assert reader.room == tokenizer.model_max_length - 2
        for text in TEXTS:
            own = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            assert reader.count(text) == len(own)
            cut = tokenizer(text, truncation=True, max_length=reader.room + 2).input_ids[1:-1]
            read = text.removesuffix(reader.unread(text))
            again = tokenizer(read, add_special_tokens=False, verbose=False).input_ids
            assert again[: len(cut)] == cut


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json", "none"])
def test_every_way_to_store_clip_s_tokenizer_is_counted_alike(kind: str, tmp_path: Path) -> None:
    """As transformers writes it now, as it did before, and as single files lack it."""
    tokenizer, folder = clip_tokenizer("tokenizer"), None
    if kind != "none":
        folder = tmp_path / kind
        tokenizer.save_pretrained(folder)
    if kind == "vocab.json":
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        merges = "\n".join(" ".join(pair) for pair in model["merges"])
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    reader = PromptReader("text_encoder", folder, 75)
    for text in TEXTS:
        assert reader.count(text) == len(tokenizer(text, add_special_tokens=False).input_ids)


def test_a_broken_tokenizer_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelsError, match="cannot read the tokenizer in"):
        PromptReader("text_encoder", tmp_path, 75).count("a girl")


# -- chunks ----------------------------------------------------------------------------------------


def parts_of(base: LoadedPipeline, text: str, count: int) -> list[str]:
    """A text's tokens by chunks, as texts that have these tokens."""
    tokenizer = base.tokenizers[0]
    ids, room = tokenizer(text, add_special_tokens=False, verbose=False).input_ids, 46
    parts = [ids[chunk * room : (chunk + 1) * room] for chunk in range(count)]
    texts = [tokenizer.decode(part) for part in parts]
    assert [tokenizer(t, add_special_tokens=False).input_ids for t in texts] == parts
    return texts


def test_a_long_prompt_is_its_chunks_side_by_side(
    plain: LoadedPipeline, chunked: LoadedPipeline
) -> None:
    """Each is read as if it were a prompt, also those that are empty; the pooled is the first's."""
    for text in ("a girl on the beach", LONG):
        with torch.no_grad():
            whole = chunked.encode([text])
            parts = [plain.encode([part]) for part in parts_of(plain, text, 3)]
        wanted = torch.cat([part.hidden for part in parts], dim=1)
        torch.testing.assert_close(whole.hidden, wanted)
        if whole.pooled is not None:
            torch.testing.assert_close(whole.pooled, parts[0].pooled)


def test_prompts_side_by_side_are_read_as_alone(chunked: LoadedPipeline) -> None:
    prompts = [LONG, "a girl", f"{LONG}, {LONG}", ""]
    with torch.no_grad():
        together = chunked.encode(prompts)
        for place, prompt in enumerate(prompts):
            alone = chunked.encode([prompt])
            torch.testing.assert_close(together.hidden[place], alone.hidden[0])
    assert together.hidden.shape[:2] == (4, 3 * 48)


def drawn(base: LoadedPipeline, prompts: Sequence[str], negative: str = "") -> list[bytes]:
    sweep = load_sweep(["inference_steps=2", "sampler.batch_width=2", "exam=quick"])
    spec = replace(sweep.cells[0].images, negative_prompt=negative, guidance_scale=5.0)
    images = paint_with(base)(spec, [Asked(prompt, 0, 7) for prompt in prompts])
    return [image.tobytes() for image in images]


def test_what_differs_at_the_end_is_drawn_differently(
    plain: LoadedPipeline, chunked: LoadedPipeline
) -> None:
    ends = [f"{LONG}, a girl on the beach", f"{LONG}, a robot at night"]
    first, second = drawn(plain, ends)
    assert first == second
    first, second = drawn(chunked, ends)
    assert first != second
    assert drawn(chunked, ends, f"{LONG}, night") != drawn(chunked, ends, f"{LONG}, day")
    assert drawn(plain, ends, f"{LONG}, night") == drawn(plain, ends, f"{LONG}, day")


def test_the_base_draws_as_diffusers_does(plain: LoadedPipeline) -> None:
    """What training sees of prompts is what a plain call of the pipeline draws with."""
    sweep = load_sweep(["inference_steps=2", "sampler.batch_width=2", "exam=quick"])
    spec = replace(sweep.cells[0].images, negative_prompt="night")
    prompts = ["a girl on the beach", "a robot"]
    ours = paint_with(plain)(spec, [Asked(prompt, 0, 7) for prompt in prompts])
    with torch.inference_mode():
        theirs = plain.pipeline(
            prompt=prompts, negative_prompt=["night"] * 2, num_inference_steps=2,
            guidance_scale=spec.guidance_scale, height=64, width=64, output_type="np",
            generator=[generator(7, "image") for _ in prompts],
        ).images  # fmt: skip
    assert np.array_equal(ours, theirs)


def test_chunks_are_taught_and_drawn(tmp_path: Path) -> None:
    """A whole cell; its key is another, and only where there is more than one chunk."""
    words = ["train_steps=2", "method.text_encoder=true", "metric=[score]",
             f"character.instance_prompt='UnicornGirl, {LONG}'"]  # fmt: skip
    _, _, (cut,) = execute(tmp_path, *words)
    _, store, (whole,) = execute(tmp_path, *words, "models.bases.sdxl.text_chunks=2")
    assert whole.state == "finished"
    assert cut.trajectory != whole.trajectory
    one, two = (store.folder / str(result.images) for result in (cut, whole))
    assert pictures(one) != pictures(two)
    same = sweep_of(tmp_path, *words, "models.bases.sdxl.text_chunks=1").cells[0]
    assert same.key == cut.cell


# -- the layer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [2, 3])
def test_clip_skip_reads_a_shorter_encoder(skip: int, tmp_path: Path) -> None:
    """One that has lost its last layers, with the last normalisation in place, as A1111 has it."""
    shorter = CLIPTextModel.from_pretrained(WEIGHTS / "sd15" / "text_encoder")
    del shorter.encoder.layers[1 - skip :]
    base = base_at(WEIGHTS / "sd15", clip_skip=skip)
    ids = base.tokenizers[0](
        ["a girl on the beach"], padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        wanted = shorter(ids)[0]
        torch.testing.assert_close(base.encode(["a girl on the beach"]).hidden, wanted)
        last = base_at(WEIGHTS / "sd15").encode(["a girl on the beach"]).hidden
    assert not torch.allclose(wanted, last)
    assert drawn(base, ["a girl"] * 2) != drawn(base_at(WEIGHTS / "sd15"), ["a girl"] * 2)


def test_a_base_reads_as_its_own_spec_says(tmp_path: Path) -> None:
    """At its default a setting is in no key; and what loads a base has the weights alone to say."""
    words = ["method=dreambooth", "method.prior_weight=0"]
    plain = sweep_of(tmp_path, *words)
    skipped = sweep_of(tmp_path, *words, "models.bases.sd15.clip_skip=2").cells[0].trajectory
    base = plain.cells[0].trajectory.base
    assert base is not None
    assert base.family.settings == {}
    assert skipped.base is not None
    assert skipped.base.family.settings == {"clip_skip": 2}
    assert load_base(skipped.base, base_named(plain, "sd15"), CPU).family.clip_skip == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models.bases.sd15.clip_skip=4", "method=dreambooth"], "has 3 layers"),
        (["models.bases.sd15.clip_skip=0", "method=dreambooth"], "greater than or equal to 1"),
        (["+models.bases.sdxl.clip_skip=2"], "clip_skip"),
        (["models.bases.sdxl.text_chunks=0"], "text_chunks=0"),
        (["models.bases.sdxl.text_chunks=99"], "text_chunks=99"),
    ],
)
def test_settings_that_cannot_be_are_one_message(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path, *words, "action=plan")) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message


# -- what is cut is said ---------------------------------------------------------------------------


def remedy(message: str) -> str:
    """The setting that a message or a plan advises."""
    (word,) = {w.rstrip(",") for w in message.split() if w.startswith("models.bases.")}
    return word


def test_a_plan_names_what_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "drawings"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", folder)
    (folder / "03.txt").write_text(f"UnicornGirl, {LONG}", encoding="utf-8")
    words = ["method=lora", "character=folder", f"character.images={folder}", "action=plan",
             "character.identifier=UnicornGirl", "character.class_noun=girl",
             f"sampler.negative_prompt='{LONG}, night'",
             f"exam.prompts=['{'{subject}'}, {LONG}, last words']"]  # fmt: skip
    words = [*small(tmp_path), *words]
    assert main(words) == 0
    plan = capsys.readouterr().out
    for said in ("caption of 03.png: sdxl reads 46 of", 'not "', "exam prompt", "negative prompt"):
        assert said in plan
    assert main([*words, remedy(plan)]) == 0
    again = capsys.readouterr().out
    assert "caption of 03.png" not in again
    assert "negative prompt" not in again
    assert "CLIP, which scores, reads 46 of" in again  # which has no chunks
    assert "make it shorter" in again


def test_a_plan_of_short_texts_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path, "action=plan")) == 0
    assert "not read" not in capsys.readouterr().out


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
@pytest.mark.parametrize("where", ["caption", "exam"])
def test_an_identifier_that_is_not_read_is_refused(
    method: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what the message advises leads to a plan."""
    folder = tmp_path / "drawings"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", folder)
    words = [f"method={method}", "method.prompts=captions", "character=folder", "action=plan",
             f"character.images={folder}", "character.identifier=UnicornGirl"]  # fmt: skip
    late = f"{LONG}, unicorngirl"
    if where == "caption":
        (folder / "02.txt").write_text(late, encoding="utf-8")
    else:
        words += [f"exam.prompts=['{late.replace('unicorngirl', '{subject}')}']"]
    words = [*small(tmp_path), *words]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "beyond the first 46 tokens, which are all that sdxl reads of" in message
    assert ("caption of 02.png" if where == "caption" else "exam prompt") in message
    assert main([*words, remedy(message)]) == 0
    capsys.readouterr()
    if where == "caption":  # the other remedy
        (folder / "02.txt").write_text(f"UnicornGirl, {LONG}", encoding="utf-8")
        assert main(words) == 0


def test_an_identifier_is_counted_by_the_tokens_that_stand_for_it(tmp_path: Path) -> None:
    """32 vectors take 32 of the 46 tokens that are read."""
    words = [
        "method=textual_inversion",
        "exam.prompts=['a red hat on a girl on a big red hat on a red hat, {subject}']",
    ]
    assert sweep_of(tmp_path, *words).cut == ()
    with pytest.raises(ConfigError, match="beyond the first 46 tokens"):
        sweep_of(tmp_path, *words, "method.num_vectors=32")


def test_a_shuffled_identifier_must_be_read_wherever_it_comes(tmp_path: Path) -> None:
    folder = tmp_path / "drawings"
    shutil.copytree(embedded.FOLDER / "unicorn_girl", folder)
    for path in folder.glob("*.txt"):
        path.write_text(f"UnicornGirl, {LONG}", encoding="utf-8")
    words = ["method=lora", "character=folder", f"character.images={folder}",
             "character.identifier=UnicornGirl"]  # fmt: skip
    assert sweep_of(tmp_path, *words).cells
    with pytest.raises(ConfigError, match="may be moved beyond the first 46 tokens") as refused:
        sweep_of(tmp_path, *words, "method.shuffle_caption=true")
    assert "method.keep_tokens=1" in str(refused.value)
    words.append("method.shuffle_caption=true")
    assert sweep_of(tmp_path, *words, "method.keep_tokens=1").cells
    first = str(refused.value).splitlines()[0]
    assert sweep_of(tmp_path, *words, remedy(first)).cells


def test_sd3_says_what_its_encoders_do(tmp_path: Path) -> None:
    """CLIP cuts, T5 reads it whole; there are no chunks to advise."""
    for t5 in (True, False):
        folder = write_sd3(tmp_path / f"sd3-{t5}", t5=t5)
        weights = find_base(str(folder), tmp_path, Plugin("sd3", "StableDiffusion3", 1, {}))
        readers = {reader.name: reader.room for reader in readers_of(weights)}
        clip = {"text_encoder": 46, "text_encoder_2": 46}
        assert readers == (clip | {"text_encoder_3": 255} if t5 else clip)
        words = ["+models.bases.sd3._target_=charsweep.models.families.sd3.StableDiffusion3",
                 f"+models.bases.sd3.path={folder}", "+models.bases.sd3.resolution=64",
                 "method.base=sd3", f"exam.prompts=['{LONG}, {'{subject}'}']"]  # fmt: skip
        if t5:
            (cut,) = sweep_of(tmp_path, *words).cut
            assert "text_encoder_3 reads it whole" in cut.reader
            assert cut.advice == "make it shorter"
        else:
            with pytest.raises(ConfigError, match="write it earlier, or make it shorter"):
                sweep_of(tmp_path, *words)


def test_counting_needs_no_torch() -> None:
    code = "from charsweep.config import load_sweep; load_sweep(['+sweep=lr_grid'])"
    assert not {"torch", "transformers", "open_clip"} & loaded_after(code)
    single = (
        "from charsweep.models.prompt_tokens import PromptReader as R; R('', None, 75).count('a')"
    )
    assert not {"torch", "transformers", "open_clip"} & loaded_after(single)
