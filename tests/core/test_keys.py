"""Keys of real sweeps are what they were: one that changes makes everybody's store worthless."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from charsweep.config import load_sweep
from charsweep.core.cells import Cell
from charsweep.core.keys import canonical, key_of
from charsweep.core.plugins import CONF, identity_of, own_classes, resolve
from charsweep.core.specs import image_set_key, score_key

# The first cell's trajectory and images; of every cell, in the sweep's order, these, each of its
# scores, and what the exam's parts draw and score. A key changes when a plug-in's version or a
# published default does: then on purpose, and here too.
PINNED = {
    "lr_grid": ("dcfab7d3f4e3", "796830ad0e6d", "c7ae7ec95b1a"),
    "study": ("dcfab7d3f4e3", "796830ad0e6d", "4a051d9d49f7"),
    "adapters": ("5d3738d80d53", "16777692e772", "720b6a4baaf8"),
}


def keys_of(cell: Cell) -> list[str]:
    scores = [cell.score_spec(metric, cell.images).key for metric in cell.metrics]
    parts = [one.key for part in cell.parts for one in (part.images, part.untaught, *part.scores)]
    return [cell.trajectory.key, cell.images.key, *scores, *parts]


@pytest.mark.parametrize("name", PINNED)
def test_keys_of_real_sweeps_have_not_moved(name: str, tmp_path: Path) -> None:
    cells = load_sweep([f"root={tmp_path}", f"+sweep={name}"]).cells
    first = keys_of(cells[0])
    found = (first[0], first[1], key_of([keys_of(cell) for cell in cells]))
    assert found == PINNED[name]


def test_a_key_is_made_of_plain_values_alone(tmp_path: Path) -> None:
    """What was computed on a spec before does not slip in, and a stored spec gives the same key."""
    cell = load_sweep([f"root={tmp_path}", "+sweep=smoke"]).cells[0]
    score = cell.score_spec(cell.metrics[0], cell.images)
    assert "key" in vars(cell.images)  # computed before, and kept there
    assert key_of(canonical(cell.trajectory)) == cell.trajectory.key
    assert image_set_key(canonical(cell.images)) == cell.images.key
    assert score_key(canonical(score)) == score.key


def test_no_key_says_where_code_lies(tmp_path: Path) -> None:
    for cell in load_sweep([f"root={tmp_path}", "+sweep=study"]).cells:
        score = cell.score_spec(cell.metrics[0], cell.images)
        assert "charsweep." not in str(canonical(score))


def test_own_plugins_are_known_by_one_name_each() -> None:
    texts = [path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml")]
    targets = {name for text in texts for name in re.findall(r"_target_: (charsweep[\w.]+)", text)}
    assert len(targets) == len(own_classes()) >= 15
    for target in targets:
        assert resolve(identity_of(target)) is resolve(target)


def test_somebody_elses_plugin_is_known_by_its_path() -> None:
    assert identity_of("torch.optim.AdamW") == "torch.optim.AdamW"
    assert identity_of("charsweep_extras.metrics.Dino") == "charsweep_extras.metrics.Dino"
