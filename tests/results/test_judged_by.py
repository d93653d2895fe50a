"""What a cell's scores are measured by: which settings tell cells apart that way, and which not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small import sweep_of

from charsweep.results.cells import judged_by
from charsweep.results.unlike import fits


@pytest.mark.parametrize(
    ("word", "differs"),
    [
        ("method.rank=2", set()),
        ("lr=1e-3", set()),
        ("sampler=euler", set()),
        ("method=gan", {"prompts"}),  # which reads none; nothing else is measured in another way
        ("metric=[score,dino]", None),
        ("exam.seeds=[0]", {"seeds"}),
        ("exam.prompts=['a picture of {subject} sleeping']", {"prompts"}),
        ("character.held_out=1", {"drawings"}),
        ("models.encoders.dino.crop=32", {"encoder dino"}),
    ],
)
def test_judged_by(tmp_path: Path, word: str, differs: set[str] | None) -> None:
    plain, other = (judged_by(sweep_of(tmp_path, *words).cells[0]) for words in ((), (word,)))
    names = {name for name in plain if plain[name] != other.get(name)}
    if differs is None:  # fewer metrics are no other measure
        differs = {name for name in plain if name not in other}
        assert differs
    assert names == differs
    assert fits(other, [plain]) is not bool(differs & other.keys())
