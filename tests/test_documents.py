"""README, ARCHITECTURE.md and docs/ say what is so: their links, commands, paths and examples."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from helpers.adapter_files import adapter_file
from helpers.small import execute

from charsweep.__main__ import ALONE
from charsweep.config import as_yaml, load_settings, load_sweep
from charsweep.config.find import start_of
from charsweep.core.plugins import CONF, OWN
from charsweep.models import embedded
from charsweep.study.stages import at_most

ROOT = Path(__file__).parents[1]
README, ARCHITECTURE, DOCS = ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "docs"
FOLDERS = [ROOT / folder / "README.md" for folder in ("sweeps", "mlruns", "notebooks")]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), *FOLDERS]
MISTAKES = DOCS / "mistakes.md"  # whose commands are wrong on purpose: tests/config
# Composed and not planned: what asks the hub, and what takes seconds.
HERE = ("embedded", "random")
UNPLANNED = {
    "+sweep=full_grid",
    *(f"models={path.stem}" for path in CONF.glob("models/*.yaml") if path.stem not in HERE),
}


def lines_of_code(text: str) -> str:
    """The indented blocks of a page, without what is fenced."""
    unfenced = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line[4:] for line in unfenced.splitlines() if line.startswith("    "))


def commands() -> Iterator[tuple[str, str]]:
    """Page and each command of ours in it, as it is typed."""
    for page in PAGES:
        code = lines_of_code(page.read_text(encoding="utf-8")).replace("\\\n", " ")
        for line in code.splitlines():
            if " -m charsweep " in line and page != MISTAKES and "…" not in line:
                yield page.name, re.sub(r"\s+", " ", line.strip())


def files_in(page: Path) -> dict[str, str]:
    """The files that a page shows whole: their name in backticks, a colon, a fenced block."""
    shown = re.findall(
        r"`(my_[\w/.]+)`[^`]*:\n\n```\w+\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
    return dict(shown)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands speak of."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("drawings", "mia", "bea"):
        shutil.copytree(embedded.UNICORN_GIRL, folder / name)
    for path in (folder / "bea").glob("06.*"):  # another character
        path.unlink()
    for number, name in enumerate(("mine", "from_civitai", "runs/girl_000000250", "runs/girl")):
        adapter_file(folder / f"{name}.safetensors", number)
    (folder / "girls").mkdir()
    shutil.copy(embedded.UNICORN_GIRL / "01.png", folder / "girls")
    for page in (DOCS / "extending.md", DOCS / "sweeps.md"):
        for name, text in files_in(page).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    return folder


# -- links and commands ----------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_commands_are_found() -> None:
    assert len(list(commands())) >= 45


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_compose(
    page: str, line: str, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(surroundings)
    monkeypatch.syspath_prepend(str(surroundings))
    before, _, after = line.partition(" -m charsweep ")
    for word in shlex.split(before):
        if word.startswith(f"{OWN}="):
            monkeypatch.setenv(*word.split("=", 1))
    words = shlex.split(after.rstrip("&"), comments=True)
    settings = load_settings(words)
    if settings.action not in ALONE and UNPLANNED.isdisjoint(words):
        assert load_sweep(words).examples


def test_readme_is_short_and_says_how_to_start() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    assert all(words in text for words in ("make sweep", "make test", "+sweep=lr_grid"))
    assert len(re.findall(r"!\[", text)) == 1
    linked = re.findall(r"\(docs/([\w.]+)\)", text)
    assert sorted(set(linked)) == sorted(path.name for path in DOCS.glob("*.md"))


def test_every_sweep_is_told_with_its_cells() -> None:
    text = (DOCS / "sweeps.md").read_text(encoding="utf-8")
    for path in (ROOT / "conf" / "sweep").glob("*.yaml"):
        settings = load_settings([f"+sweep={path.stem}"])
        count = r"[\d,]+"  # of parts, which may have cells in common
        if not settings.parts:
            sizes = map(len, settings.axes.values())
            count = f"{settings.search.trials or (settings.seeds or 1) * math.prod(sizes):,}"
        if settings.find:
            stages = at_most(settings.find, start_of(settings))
            count = f"up to {sum(len(stage.cells) for stage in stages)}"
        row = rf"\| `{path.stem}` \| {re.escape(settings.question)} \| {count} \|"
        assert re.search(row, text), path.stem


# -- settings --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings_page", DOCS / "settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_told_as_they_are(settings_script: ModuleType) -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_script.page(), (
        "docs/settings.md is stale: run python docs/settings.py"
    )


def test_every_setting_is_told_with_what_it_means(settings_script: ModuleType) -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", text, re.MULTILINE))
    config = yaml.safe_load(as_yaml([]))
    for group, value in config.items():
        names = settings_script.leaves({group: value}, "")
        told = {name for name, _ in names} if group not in settings_script.UNTOLD else set()
        told = {name for name in told if name.rpartition(".")[2] not in ("name", "_target_")}
        assert told <= rows.keys() | {group}, group
    assert [name for name, meaning in rows.items() if not meaning.strip()] == []


# -- ARCHITECTURE.md -------------------------------------------------------------------------------


def rows_of(heading: str) -> list[list[str]]:
    """The cells of each row of the first table below a heading."""
    text = ARCHITECTURE.read_text(encoding="utf-8").partition(f"\n## {heading}")[2]
    _, _, *rows = [line for line in text.partition("\n## ")[0].splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def defined_in(path: Path) -> set[str]:
    """Functions and classes of a file, methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (one.name for one in node.body if isinstance(one, ast.FunctionDef))
            found |= {f"{node.name}.{name}" for name in inner}
    return found


def test_architecture_is_one_page_and_its_paths_exist() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    paths = re.findall(r"`((?:charsweep|conf|docs|tests|sweeps)/[\w./]*|[\w]+\.toml)`", text)
    assert len(paths) > 40
    tree = text.partition("\n## Tree")[2]
    paths += re.findall(r"^    ([\w/]+/)", tree, re.MULTILINE)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("heading", ["The way of a learning rate", "The way of an image"])
def test_the_functions_on_the_way_are_there(heading: str) -> None:
    rows = rows_of(heading)
    assert len(rows) >= 10
    for _, file, functions, _ in rows:
        names = set(re.findall(r"`([\w.]+)`", functions))
        assert names
        assert names <= defined_in(ROOT / file.strip("`")), file


def test_rooms_stand_on_the_floors_that_imports_are_checked_by() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["type"] == "layers"]
    floors = {
        room.strip(): floor
        for floor, rooms in enumerate(reversed(layers), 1)
        for room in rooms.split("|")
    }
    told = {Path(room.strip("`")).stem: int(floor) for floor, room, _ in rows_of("Rooms")}
    assert told == floors


# -- examples --------------------------------------------------------------------------------------


def test_the_worked_examples_work(
    surroundings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(surroundings))
    monkeypatch.setenv(OWN, "my_plugins")
    _, store, (result,) = execute(
        tmp_path, "--config-dir", str(surroundings / "my_conf"), "train_steps=3",
        "metric=[score,prompt_found]", "schedule=halving_rate", "schedule.every=1",
    )  # fmt: skip
    assert result.scores["prompt_found"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    (losses,) = store.folder.glob("*/loss.csv")
    rates = [line.split(",")[2] for line in losses.read_text().splitlines()[1:]]
    assert [float(rate) for rate in rates] == [1e-3, 5e-4, 2.5e-4]
