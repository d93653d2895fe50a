"""Writes settings.md: every setting that there is, read from conf/ and from the classes it names.

    python docs/settings.py

Name and default are those of the composed configuration, what a value may be is the settings
class's or the plug-in's own word, and the meaning is the comment beside the setting in conf/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from charsweep.config.compose import as_yaml
from charsweep.config.settings import Settings
from charsweep.core.plugins import CONF, resolve

PAGE = Path(__file__).with_name("settings.md")
HEAD = """\
# Settings

*Written by `python docs/settings.py` from conf/: change it there, then run that again.*

Every setting that there is. `NAME=VALUE` on the command line sets it; `python -m charsweep --cfg
job` shows all of them as they are, and with your words what they become. What a mistyped one is
told: [mistakes](mistakes.md).

A folder of `conf/` is a group and a file in it one value: `method=lora` takes
`conf/method/lora.yaml`, and `method.rank=8` changes a setting in it. In the tables, a default is
that of the group's first file; where another file has another, it stands behind the file's name.
Every file has a `name` besides, which results call it by, and those that choose a class have
`_target_`, its dotted name.
"""
LONGEST = 90  # characters of a default that is shown
UNLISTED = ("name", "_target_", "defaults")  # which the page says once, or Hydra alone reads
UNTOLD = ("metric", "attributes")  # groups whose files say all
KINDS = {
    "objectives": "list of metrics",
    "runtime.stop_after": "length of time or `null`",
}  # that its class turns into something else
LEAVES = (
    "axes", "parts", "exam.parts", "caption.attributes", "search.sampler", "search.pruner",
    "metric",
)  # fmt: skip


def page() -> str:
    """settings.md as it should be."""
    config = yaml.safe_load(as_yaml([]))
    meanings = comments(CONF / "config.yaml")
    groups = [name for name, value in config.items() if isinstance(value, dict)]
    groups = [name for name in groups if (CONF / name).is_dir()]
    lines = [HEAD]
    schema = Settings.model_json_schema()
    for heading, names in sections(CONF / "config.yaml"):
        lines += [f"## {heading}", ""]
        listed = [entry for name in names for entry in leaves({name: config[name]}, "")]
        lines += table(
            [(name, words(schema, name), shown(value), meanings[name]) for name, value in listed]
        )
    for group in groups:
        lines += [f"## {group}", "", *group_lines(group, schema)]
    return "\n".join(lines).rstrip() + "\n"


# -- conf/ -----------------------------------------------------------------------------------------


def sections(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Headings `# -- so` of config.yaml, each with the plain settings below it."""
    for part in re.split(r"^# -- ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        names = re.findall(r"^(\w+):", rest.partition("\nhydra:")[0], re.MULTILINE)
        yield heading[0].upper() + heading[1:], names


def comments(path: Path) -> dict[str, str]:
    """Dotted name -> the comment on its line; "" where there is none."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)(\w+):(.*)", line)
        if not match:
            continue
        indent, name, rest = len(match[1]), match[2], match[3]
        stack = [(at, parent) for at, parent in stack if at < indent]
        dotted = ".".join([*(parent for _, parent in stack), name])
        found[dotted] = rest.rpartition(" # ")[2].strip() if " # " in rest else ""
        stack.append((indent, name))
    return found


def about(path: Path) -> str:
    """The first sentences of a file: the comment that it opens with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    said = []
    for line in lines:
        if not line.startswith("#"):
            break
        if "@package" not in line:
            said.append(line.removeprefix("#").strip())
    return " ".join(said)


def read(path: Path, group: str) -> dict[str, Any]:
    """What a file sets of its own group."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(raw[group]) if "@package _global_" in path.read_text(encoding="utf-8") else raw


def brought(path: Path, group: str) -> dict[str, Any]:
    """What a file brings besides, that there is not without it."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    with_others = "@package _global_" in path.read_text(encoding="utf-8")
    known = {*default_files(), *yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))}
    return {name: own for name, own in raw.items() if with_others and name not in known}


def leaves(raw: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        dotted = f"{prefix}.{name}" if prefix else name
        if isinstance(value, dict) and value and dotted not in LEAVES:
            yield from leaves(value, dotted)
        else:
            yield dotted, value


def group_lines(group: str, schema: Mapping[str, Any]) -> list[str]:
    """A group's files, then what they set."""
    usual = default_files()[group]
    files = sorted((CONF / group).glob("*.yaml"), key=lambda path: (path.stem not in usual, path))
    lines = ["| file | |", "|---|---|"]
    lines += [f"| [`{f.stem}`](../conf/{group}/{f.name}) | {cell(about(f))} |" for f in files]
    if group in UNTOLD:
        return [*lines, ""]
    rows: dict[str, list[Any]] = {}
    for path in files:
        own = read(path, group)
        said = {name.removeprefix(f"{group}."): text for name, text in comments(path).items()}
        for name, value in leaves(own, group):
            if name.rpartition(".")[2] in UNLISTED:
                continue
            kind = plugin_of(own, name)
            row = rows.setdefault(name, ["", {}, ""])
            row[0] = row[0] or words(schema, name, kind)
            row[1][path.stem] = value
            row[2] = row[2] or said.get(name.removeprefix(f"{group}."), "")
    alike = {akin(name): said for name, (_, _, said) in reversed(rows.items()) if said}
    for name, row in rows.items():
        row[2] = row[2] or alike.get(akin(name), "")
    listed = [(name, kind, defaults(by, usual), said) for name, (kind, by, said) in rows.items()]
    lines = [*lines, "", *table(listed)]
    for path in files:
        found, own = comments(path), list(leaves(brought(path, group), ""))
        if own:
            lines += [f"With `{group}={path.stem}` come:", ""]
            lines += table([(n, words(schema, n), shown(v), found[n]) for n, v in own])
    return lines


def akin(name: str) -> tuple[str, ...]:
    """What settings of one meaning share: models.bases.sdxl.path is to sdxl as to sd15."""
    group, *inner, last = name.split(".")
    return (group, *inner[:1], last) if len(inner) > 1 else (name,)


def default_files() -> dict[str, list[str]]:
    """Group -> its files among the defaults of config.yaml."""
    raw = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    named = [entry for entry in raw if isinstance(entry, dict)]
    return {
        group: value if isinstance(value, list) else [value]
        for entry in named
        for group, value in entry.items()
    }


def plugin_of(own: Mapping[str, Any], name: str) -> type | None:
    """The class whose own setting it is, where it is one of charsweep's."""
    at: Any = own
    for part in name.split(".")[1:-1]:
        at = at[part]
    target = at.get("_target_") if isinstance(at, Mapping) else None
    return resolve(target) if target and target.startswith("charsweep.") else None


# -- what a value may be ---------------------------------------------------------------------------


def words(schema: Mapping[str, Any], name: str, plugin: type | None = None) -> str:
    """What the setting may be, in words; "" where its class does not say."""
    last = name.rpartition(".")[2]
    if name in KINDS:
        return KINDS[name]
    if plugin:
        own = TypeAdapter(plugin).json_schema(by_alias=True)
        if last in own["properties"]:
            return kind_of(own["properties"][last], own)
    at: Any = schema
    for part in name.split("."):
        at = resolved(at, schema)
        if part in at.get("properties", {}):
            at = at["properties"][part]
        elif isinstance(at.get("additionalProperties"), dict):
            at = at["additionalProperties"]
        elif at.get("patternProperties"):
            (at,) = at["patternProperties"].values()
        else:
            return ""
    return kind_of(at, schema)


def resolved(at: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for; of a group that may be there or not, the group."""
    at = next((one for one in at.get("anyOf", ()) if "$ref" in one), at)
    return schema["$defs"][at["$ref"].rpartition("/")[2]] if "$ref" in at else at


def kind_of(at: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """One JSON schema in words."""
    at = resolved(at, schema)
    if "anyOf" in at:
        return " or ".join(kind_of(each, schema) for each in at["anyOf"])
    if "enum" in at:
        return ", ".join(f"`{shown(value, bare=True)}`" for value in at["enum"])
    if "const" in at:
        return f"`{at['const']}`"
    kind = at.get("type")
    if kind == "array":
        word, *rest = kind_of(at["items"], schema).split(" ", 1) if at.get("items") else [""]
        items = " ".join([PLURAL.get(word, word), *rest]).replace("whole number", "whole numbers")
        return f"list of {items}" if word else "list"
    if kind in ("number", "integer"):
        word = "number" if kind == "number" else "whole number"
        low = [f"from {at['minimum']:g}"] if "minimum" in at else []
        low += [f"above {at['exclusiveMinimum']:g}"] if "exclusiveMinimum" in at else []
        high = [f"to {at['maximum']:,}"] if "maximum" in at else []
        high += [f"to below {at['exclusiveMaximum']:,}"] if "exclusiveMaximum" in at else []
        steps = [f"by {at['multipleOf']}s"] if "multipleOf" in at else []
        return " ".join([word, *low, *high, *steps])
    named = {"string": "text", "boolean": "`true`, `false`", "object": "settings by name"}
    return {**named, "null": "`null`"}.get(str(kind), "")


PLURAL = {"text": "texts", "number": "numbers"}


# -- Markdown --------------------------------------------------------------------------------------


def table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Setting, what it may be, default, meaning."""
    lines = ["| setting | may be | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {kind} | {usual} | {cell(without_list(said))} |"
        for name, kind, usual, said in rows
    ]
    return [*lines, ""]


def without_list(said: str) -> str:
    """A meaning without the values that it opens with: "a | b: which" is said in the table."""
    return re.sub(r"^\w+( \| \w+)+: ", "", said)


def defaults(by_file: Mapping[str, Any], usual: Sequence[str]) -> str:
    """The value in the usual file, then those of the files that differ, with their names."""
    (file, first), *others = by_file.items()
    said = [shown(first) if file in usual else f"{file}: {shown(first)}"]
    said += [f"{file}: {shown(value)}" for file, value in others if value != first]
    return "; ".join(said)


def shown(value: Any, bare: bool = False) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, list):
        text = f"[{', '.join(shown(each, bare=True) for each in value)}]"
    elif isinstance(value, dict):
        inner = ", ".join(f"{name}: {shown(each, bare=True)}" for name, each in value.items())
        text = f"{{{inner}}}"
    else:
        text = str(value)
    if bare:
        return text
    return f"`{text or chr(34) * 2}`" if len(text) <= LONGEST else "see the file"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
