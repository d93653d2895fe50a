"""Folders with letters that addresses give a meaning: databases lie where they are said to."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from charsweep.config.compose import as_yaml
from charsweep.core.system.sqlite import address_of, path_in
from charsweep.study.place import File

ODD = ("{x}", "a%20b", "100%", "a b", "a#b", "a?b=c", "ミア", "a@b:c", "{SCHEMA_VERSION}", "a+b;c")


@pytest.mark.parametrize("name", ODD)
def test_an_address_leads_to_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "x.db"
    assert path_in(address_of(path)) == path
    assert path_in("http://127.0.0.1/x.db") is None


@pytest.mark.parametrize("name", ODD[:6])
def test_a_study_lies_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    optuna.create_study(storage=File(folder / "study.db").open(), study_name="s")
    again = File(folder / "study.db").open()
    assert [known.study_name for known in optuna.get_all_study_summaries(again)] == ["s"]
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ODD[:6])
def test_a_folder_of_ones_own_configuration(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "sampler"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine\nguidance_scale: 7.25\n")
    assert "7.25" in as_yaml(["--config-dir", str(folder.parent), "sampler=mine"])
