"""Values of an axis that are texts: empty ones are seen, and none runs into the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import FakeSweep, result, scored

from charsweep.plan.describe import _values
from charsweep.results import recommend
from charsweep.results.cells_table import cells_table
from charsweep.results.facts import asked
from charsweep.results.labels import value_text
from charsweep.results.verdict import judge

AXIS = "sampler.negative_prompt"
TEXTS = ["", "blurry, ugly", "dark"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ("blurry, ugly", '"blurry, ugly"'),
        ("a; b", '"a; b"'),
        ("a · b", '"a · b"'),
        ("lr = 1", '"lr = 1"'),
        ("girl and boy", '"girl and boy"'),
        (" dark", '" dark"'),
        ('so "dark"', '"so \\"dark\\""'),
        ("dark", "dark"),
        ("it's dark", "it's dark"),
        ("ミア", "ミア"),
        ('["to_q", "to_k"]', '["to_q", "to_k"]'),  # a list
        (None, "none"),
    ],
)
def test_a_text_among_others(value: Any, text: str) -> None:
    assert value_text(AXIS, value) == text


def test_every_value_is_seen_and_whole(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {AXIS: TEXTS})
    for number, text in enumerate(TEXTS):
        sweep.add(**{AXIS: text}, scores=scored(0.8 - number / 10))
    record = sweep.record()
    assert dict(asked(record))[AXIS] == '"", "blurry, ugly", dark'
    assert recommend(record).label == f'{AXIS} = ""'
    assert recommend(record).title.endswith(' ""')
    table = cells_table(record, judge(record))
    assert [row.entries[1].text for row in table.rows][-3:] == ['""', '"blurry, ugly"', "dark"]
    page = sweep.report()
    assert "&#34;blurry, ugly&#34;" in page or '"blurry, ugly"' in page


def test_a_plan_and_a_run_tell_texts_apart() -> None:
    assert _values(tuple(TEXTS)) == '"", "blurry, ugly", dark'
    from charsweep.track.values import params, run_name  # imports MLflow: seconds

    cell = result(cell="c", values={AXIS: "", "x": "a, b"}, trajectory="t")
    assert run_name(cell, [AXIS, "x"]) == f'{AXIS}="", x="a, b"'
    known = {param.key: param.value for param in params(cell, Path("none"), None)}
    assert known[AXIS] == '""'
