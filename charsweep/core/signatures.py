"""What a plug-in's class takes, read from its source: importing torch or diffusers takes seconds.

So planning can refuse a setting that such a class would ignore, or fail on once weights are loaded.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from charsweep.core.errors import ConfigError
from charsweep.core.plugins import is_known

PLACES = {"diffusers": "schedulers"}  # where the classes lie that a package shows at its top


@cache
def parameters_of(target: str) -> frozenset[str] | None:
    """Names of what a class is made with; None where its source does not say.

    ConfigError if its package is not installed, or is one of the known and has no such class.
    """
    package, *modules, name = target.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ConfigError(
            f"_target_={target}: {package} is not installed; {how_to_install(package)}"
        )
    if not spec.submodule_search_locations:
        return None
    place = Path(next(iter(spec.submodule_search_locations)))
    place = place.joinpath(*modules) if modules else place / PLACES.get(package, "")
    if not place.exists():
        place = place.with_suffix(".py")
    found = _class_in(place, name)
    if found is None and is_known(target):
        raise ConfigError(
            f"_target_={target}: {package} has no such class; name one that it has, or leave "
            "_target_ as the files of conf/ say"
        )
    return _taken_by(found, place) if found else None


def how_to_install(package: str) -> str:
    """What to type for a package that is missing: charsweep's extra with it, where there is one."""
    try:
        wanted = importlib.metadata.requires("charsweep") or []
    except importlib.metadata.PackageNotFoundError:
        wanted = []
    for requirement in wanted:
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if extra and extra[1] != "dev" and re.match(rf"{package}\b", requirement):
            return f"install it by pip install 'charsweep[{extra[1]}]', or choose another"
    return f"install it by pip install {package}, or choose another"


def _class_in(place: Path, name: str) -> ast.ClassDef | None:
    """The class of that name at the top of a module, of one file or of all in a folder."""
    wanted = re.compile(rf"^class {name}\b".encode(), re.MULTILINE)
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    for path in files:
        text = path.read_bytes() if path.is_file() else b""
        if wanted.search(text):
            classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
            return next(node for node in classes if node.name == name)
    return None


def _taken_by(found: ast.ClassDef, place: Path) -> frozenset[str] | None:
    """Parameters of `__init__`, or fields of a dataclass, and those of what it is made of."""
    inits = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    own, is_whole = set(_fields(found)), False
    for arguments in (init.args for init in inits):
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        own, is_whole = {argument.arg for argument in named[1:]}, arguments.kwarg is None
    if is_whole:
        return frozenset(own)
    bases = [_class_in(place, base) for base in _names_of_bases(found)]
    taken = [_taken_by(base, place) for base in bases if base is not None]
    if any(one is None for one in taken) or not (own or taken):
        return None
    return frozenset(own).union(*(one for one in taken if one is not None))


def _fields(found: ast.ClassDef) -> Iterator[str]:
    for node in found.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) if "ClassVar" not in ast.dump(node):
                yield name


def _names_of_bases(found: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rpartition(".")[2] for base in found.bases]
