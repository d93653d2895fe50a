"""An adapter that is on a base while it is taught, and left out when it draws."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import ATTENTION, base_of, write_adapter
from helpers.small import execute, pictures, small, sweep_of
from PIL import Image
from safetensors.torch import load_file, save_file

from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError
from charsweep.evaluate.sample import Asked, paint_with
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.embedded import FOLDER

SETTING = "models.bases.sdxl.teaching_adapter"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teaching") / "made"
    write_adapter(base_of("sdxl"), folder, targets=ATTENTION, text_encoder=False)
    return folder / ADAPTER_FILE


def test_it_teaches_as_a_base_with_it_would_and_the_bare_base_draws(
    adapter: Path, tmp_path: Path
) -> None:
    """Three trials in a pack of two: the third is taught after others have been drawn."""
    words = ["pack=2", "train_steps=2", "+axes.lr=[1e-2,1e-3,1e-4]"]
    base, merged = base_of("sdxl"), tmp_path / "merged"
    shutil.copytree(FOLDER / "weights" / "sdxl", merged)
    (file,) = (merged / "unet").glob("*.safetensors")
    with base.changed(adapter):
        save_file({n: t.clone() for n, t in base.modules["unet"].state_dict().items()}, file)
    sweep, store, _ = execute(tmp_path / "a", f"{SETTING}={adapter}", *words)
    other, there, _ = execute(tmp_path / "b", f"models.bases.sdxl.path={merged}", *words)
    plain = sweep_of(tmp_path / "a", *words)
    for ours, theirs, bare in zip(sweep.cells, other.cells, plain.cells, strict=True):
        taught, wanted = (
            load_file(where.snapshot(cell.images.snapshot) / ADAPTER_FILE)
            for where, cell in ((store, ours), (there, theirs))
        )
        assert all(torch.equal(taught[name], tensor) for name, tensor in wanted.items())
        assert ours.trajectory.key != bare.trajectory.key
        assert ours.untaught_set == bare.untaught_set
        assert ours.images.drawing_base == bare.images.drawing_base
    cell = sweep.cells[0]
    asked = [Asked(prompt, number, seed) for number, prompt in enumerate(cell.images.prompts)
             for seed in cell.images.seeds]  # fmt: skip
    with base.with_snapshot(store.snapshot(cell.images.snapshot)):
        by_hand = paint_with(base)(cell.images, asked)
    drawn = pictures(store.images(cell.images)).values()
    for array, picture in zip(by_hand, drawn, strict=True):
        shown = np.asarray(Image.open(BytesIO(picture)), int)
        assert np.abs(shown - (array * 255).round()).max() <= 1


def test_what_cannot_be_on_a_base_is_said_once(adapter: Path, tmp_path: Path) -> None:
    write_adapter(base_of("sdxl"), tmp_path / "text", targets=("to_q",), text_encoder=True)
    wrong = {
        f"{SETTING}={tmp_path / 'none.safetensors'}": "there is no such .safetensors file",
        f"{SETTING}={tmp_path}": "there is no such .safetensors file",
        f"{SETTING}={tmp_path / 'text' / ADAPTER_FILE}": "it cannot be put on sdxl alone",
        f"models.bases.sd15.teaching_adapter={adapter}": "method=dreambooth changes the weights",
    }
    for word, said in wrong.items():
        method = ["method=dreambooth"] if "sd15" in word else []
        with pytest.raises(ConfigError) as error:
            load_sweep(small(tmp_path, word, *method))
        assert str(error.value).startswith(word.split("=")[0])
        assert said in str(error.value)
        assert len(str(error.value).splitlines()) == 1
