"""The notebooks: run from top to bottom on a small sweep, and kept without what a run leaves."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMED = re.compile("is (recommended|the best so far): ")  # eight steps hardly teach


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(autouse=True)
def _kernel(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that leaves nothing at home, draws in the notebook, and takes few steps."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(root / "home"))
    monkeypatch.setenv("CHARSWEEP_ROOT", str(root))
    monkeypatch.setenv("CHARSWEEP_SWEEP", "my_character")
    monkeypatch.setenv("CHARSWEEP_STEPS", "8")
    monkeypatch.delenv("MPLBACKEND")


def execute(name: str, root: Path) -> list[Any]:
    """All outputs of a notebook, in their order."""
    import nbclient
    import nbformat

    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(root)}}
    ).execute()
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def texts(outputs: list[Any]) -> str:
    found = [out.get("text", "") for out in outputs]
    found += [text for out in outputs for text in out.get("data", {}).values()]
    return "\n".join(map(str, found))


def pictures(outputs: list[Any]) -> list[Image.Image]:
    packed = [out["data"]["image/png"] for out in outputs if "image/png" in out.get("data", {})]
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in packed]


def colours(picture: Image.Image) -> int:
    return len(picture.convert("RGB").resize((64, 64)).getcolors(64 * 64))


@pytest.mark.slow
def test_from_drawings_to_a_chosen_adapter_and_from_its_runs_to_plots(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: the second looks at what the first has made, the third goes on with it,
    as if a session had ended and all that is left were the kept folder."""
    outputs = execute("02_one_character.ipynb", root)
    assert "3 trajectories" in texts(outputs)
    assert NAMED.search(texts(outputs))
    drawings, drawn = pictures(outputs)
    assert colours(drawings) > 100
    assert colours(drawn) > 100

    outputs = execute("01_compare_runs.ipynb", root)
    told = texts(outputs)
    assert "3 of 3 cells finished" in told
    for name in ("lr=3e-3", "lr=1e-3", "lr=3e-4", "quality_ratio"):
        assert name in told
    curves, scatter, sheets = pictures(outputs)
    assert min(curves.width, scatter.width) > 300
    assert colours(sheets) > 100

    monkeypatch.setenv("CHARSWEEP_ROOT", str(tmp_path))
    monkeypatch.setenv("CHARSWEEP_KEEP", str(root))
    outputs = execute("03_free_gpu.ipynb", root)
    told = texts(outputs)
    assert f"goes on with {root}/sweeps" in told
    assert "cells         6 (2 stored already)" in told
    assert "3 h 00 min, report included: all of it is expected to fit" in told
    assert NAMED.search(told)
    assert "There is more to do" not in told
    exported = list((root / "sweeps/free_gpu/export").rglob("*.safetensors"))
    assert exported
    assert all(str(path) in told for path in exported)
    assert (root / "sweeps/free_gpu/report/index.html").exists()
    (strip,) = pictures(outputs)
    assert colours(strip) > 100


def test_there_are_three() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "01_compare_runs.ipynb", "02_one_character.ipynb", "03_free_gpu.ipynb",
    ]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_kept_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
