"""What may be typed: every setting that there is, and values for it of every kind.

The settings are found by walking what is composed; their types and limits in pydantic's schema of
them, and in that of the plug-in that a group names. So a new setting is fuzzed without a word here.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic
from hypothesis import strategies as st

from charsweep.__main__ import main
from charsweep.config import Settings
from charsweep.config.compose import Composing, compose_words
from charsweep.config.mistyped import ALIASES, NEEDLESS
from charsweep.config.schema import alternatives
from charsweep.core.plugins import CONF, resolve
from charsweep.core.system.console import spell

SECONDS = 5.0  # of CPU: what a command may take to refuse, or to plan, what is tried here
LONGEST = 2500  # characters of a message: a screen
MESSAGE = re.compile(
    r"(Config|Character|Models|Store|Training|Tracking)Error: (?P<text>\S.*)\n", re.S
)
# A message ends with what to do: one of the words that the house says it with.
REMEDY = re.compile(
    r"\b(should|give|set|choose|take|type|write|add|list|mend|see|leave|fetch|run|put|draw|convert|"
    r"make|save|copy|export|move|name|use|there is|there are|keep|rename|reduce|delete|free|check|"
    r"start|install|quote|shorten|try|needs?|paint)\b", re.I,
)  # fmt: skip


# -- what comes of a command -----------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a command left behind on the two streams, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        found = MESSAGE.fullmatch(self.err)
        assert found, self.err
        return found["text"]


def tree(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every path below the folders, with its size and time of change."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")] if folder.exists() else []:
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def outcome(*words: str) -> Outcome:
    """Run a command in this process; it ends by itself, in time, and as `check` says."""
    out, err = io.StringIO(), io.StringIO()
    begun = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as left:  # Hydra's --help
            code = int(left.code or 0)
    taken = time.process_time() - begun
    assert taken < SECONDS, f"{taken:.1f} s for {words}"
    return checked(Outcome(code, out.getvalue(), err.getvalue()))


def checked(one: Outcome) -> Outcome:
    """Either something was shown, or one message says what to mend."""
    assert one.code in (0, 2), one
    assert "Traceback" not in one.out + one.err, one.err
    if one.code == 0:
        assert one.out, one
        assert one.err == "", one.err
        return one
    assert one.out == "", one.out
    assert len(MESSAGE.findall(one.err)) == 1, one.err
    assert len(one.message) <= LONGEST, one.err
    assert REMEDY.search(one.message), one.err
    assert not re.search(r"0x[0-9a-f]{8}|<class |\bobject at\b|\x1b|\0", one.message), one.err
    return one


# -- settings and their schemas --------------------------------------------------------------------


@cache
def settings_of(*words: str) -> dict[str, Any]:
    """Dotted name -> schema (or {}) of every setting of this composed configuration."""
    with Composing():
        raw = compose_words([*words])
    schema = Settings.model_json_schema()
    return dict(_walk(raw, schema, schema.get("$defs", {}), ""))


def _walk(
    raw: Mapping[str, Any], schema: Any, known: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        own = _field(schema, name, known)
        yield f"{prefix}{name}", own
        if isinstance(value, dict):
            below, defs = own, known
            target = value.get("_target_")
            if isinstance(target, str) and target.startswith("charsweep."):
                below = pydantic.TypeAdapter(resolve(target)).json_schema()
                defs = {**known, **below.get("$defs", {})}
            yield from _walk(value, below, defs, f"{prefix}{name}.")


def _field(schema: Any, name: str, known: Mapping[str, Any]) -> Any:
    for node in alternatives(schema, known):
        found = node.get("properties", {}).get(name) or node.get("additionalProperties")
        if isinstance(found, dict):
            return {"anyOf": alternatives(found, known)}
    return {}


# -- values ----------------------------------------------------------------------------------------

ODD = ["", " ", "'", '"', "\\", "\n", "\t", "\0", "..", "../..", "/", "/dev/null", "~", "~nobody/x",
       "a" * 5000, "💥", "é", "e\u0301", "\u202egnp", "\ud800", "${lr}", "${lr", "${oc.env:HOME}",
       "${question}", "${nothing.here}", "${now:%Y}", "${hydra:runtime.cwd}", "${oc.create:{a:1}}",
       "???", "<script>", "{subject}", "{", "}", "%s", "%(a)s", "-", "--", "null", "None", "true",
       "yes", "on", "0x10", "1_000", "1e-4x", "1e400", "-0.0", "nan", "-inf", "9" * 5000, "1,2",
       "[", "]", "embedded:x", "embedded:..", "random:x", "model.ckpt", "OWNER/NAME", "con",
       "http://127.0.0.1:9/", "os.system", "torch.optim.Nope", "charsweep.train.methods.gan.Gan",
       "optuna.samplers.GridSampler", "charsweep.metrics"]  # fmt: skip
NUMBERS = [0, -1, 1, 2, 3, 7, 8, 1.5, -0.0, 1e-300, 1e300, 2**31, 2**32, 2**63, 2**64, 10**30,
           10**400, float("nan"), float("inf"), -float("inf")]  # fmt: skip

plain = st.one_of(
    st.none(), st.booleans(), st.sampled_from(ODD), st.sampled_from(NUMBERS), st.text(max_size=30),
    st.integers(), st.floats(),
)  # fmt: skip
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "low", "high", "_target_", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)


def at_the_limits(schema: Any) -> list[Any]:
    """What a schema just allows and what it just forbids."""
    values: list[Any] = []
    for node in alternatives(schema, {}):
        values += node.get("enum", []) + ([node["const"]] if "const" in node else [])
        for limit in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if limit in node:
                one = node[limit]
                values += [one, one - 1, one + 1, one - 1e-9, one + 1e-9, -one, str(one), [one]]
        if step := node.get("multipleOf"):
            values += [step, step * 3, step + 1, step / 2]
        if node.get("type") == "boolean":
            values += [True, False, 1, "yes"]
        if node.get("type") == "array":
            inner = at_the_limits(node.get("items", {})) or ["a", "b"]
            values += [[], [inner[0]], [inner[0], inner[0]], inner, [inner], inner[0], [None]]
    return values


def values_for(schema: Any) -> st.SearchStrategy[Any]:
    limits = at_the_limits(schema)
    return st.one_of(st.sampled_from(limits), anything) if limits else anything


def spelled(value: Any) -> str:
    """As `spell`, for mappings too: what Hydra's grammar reads back."""
    if isinstance(value, dict):
        inner = (f"{name or 'a'}:{spelled(one)}" for name, one in value.items())
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return spell(value)


# -- words -----------------------------------------------------------------------------------------

SAFE = ["question"]  # may be anything at all
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
FILES = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}
STARTS = [(), ("method=dreambooth",), ("method=gan",), ("method=diffusion",), ("schedule=cosine",),
          ("search=tpe",), ("search=halving", "objectives=[dino]"), ("sampler=ddim",),
          ("optimizer=prodigy",), ("caption=blip",), ("+sweep=smoke",),
          ("character=folder", "character.images=embedded:unicorn_girl")]  # fmt: skip


@st.composite
def settings_typed(draw: st.DrawFn) -> list[str]:
    """One to three settings of some configuration, each with a value at, beyond or beside it."""
    start = draw(st.sampled_from(STARTS))
    known = settings_of(*start)
    words = list(start)
    for name in draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3)):
        value = draw(values_for(known[name]))
        if name == "action" and value not in (None, "plan", 0):
            continue
        plus = draw(st.sampled_from(["", "", "", "", "+", "++"]))
        words.append(f"{plus}{name}={spelled(value)}")
    return words


@st.composite
def axes_typed(draw: st.DrawFn) -> list[str]:
    """Axes of any name with any values: lists, ranges, repeats, nothing."""
    start = draw(st.sampled_from(STARTS))
    known = settings_of(*start)
    words = list(start)
    for name in draw(
        st.lists(st.sampled_from([*sorted(known), "lr", "x", ""]), min_size=1, max_size=2)
    ):
        values = values_for(known.get(name, {}))
        span = st.fixed_dictionaries(
            {"low": st.sampled_from(NUMBERS), "high": st.sampled_from(NUMBERS)},
            optional={"step": st.sampled_from(NUMBERS), "log": st.booleans()},
        )
        value = draw(st.one_of(st.lists(values, max_size=3), span, values))
        form = draw(st.sampled_from(["+axes.{}={}", "++axes.{}={}", "+axes={{{}:{}}}"]))
        words.append(form.format(name, spelled(value)))
    return words


@st.composite
def groups_typed(draw: st.DrawFn) -> list[str]:
    """Groups and their files: one of another group, an unknown one, several, none, without +."""
    words = []
    for group in draw(
        st.lists(st.sampled_from([*GROUPS, "nope", "hydra/launcher"]), min_size=1, max_size=3)
    ):
        files = [*FILES.get(group, []), *ODD, "nope", "../method/lora", "[lora,gan]"]
        of_others = st.sampled_from([file for one in FILES.values() for file in one])
        file = draw(st.one_of(st.sampled_from(files), of_others))
        form = draw(st.sampled_from(["{}={}", "{}={}", "+{}={}", "++{}={}", "~{}", "{}@other={}"]))
        words.append(form.format(group, file))
    return words


@st.composite
def forms_typed(draw: st.DrawFn) -> list[str]:
    """Names added, forced, taken out; flags; unknown names; broken syntax; words without =."""
    names = st.sampled_from([*sorted(settings_of()), "nope", "method.nope", "hydra.run.dir",
                             "hydra.mode", "hydra.searchpath", "parts.a.lr", "parts.a.sweep",
                             "models.bases.mine.path", "a b", "-lr", "é", "lr.x",
                             "lr[0]"])  # fmt: skip
    flags = st.sampled_from(["--resume", "-v", "--help=x", "--multirun", "-m", "--config-dir", "--",
                             "--config-dir=", "--config-name=x", "-", "--lr=1e-4", "abc", "=", "lr",
                             "~", "+", "++", "lr=", "=1", "lr==1", "lr = 1", "lr:1",
                             "lr=1 2", ""])  # fmt: skip
    grammar = st.text("abclr=[]{}:,'\"\\$+~-. 0159e!@()%#\n\t", max_size=25)
    one = st.one_of(
        flags, grammar,
        st.builds("{}{}".format, st.sampled_from(["~", "~~", "+", "++", ""]), names),
        st.builds("{}{}={}".format, st.sampled_from(["~", "+", "++", ""]), names, grammar),
    )  # fmt: skip
    return [word for word in draw(st.lists(one, min_size=1, max_size=3)) if "action" not in word]


words_typed = st.one_of(
    settings_typed(), settings_typed(), axes_typed(), groups_typed(), forms_typed()
)


VARIED = ["lr", "seed", "method", "method.rank", "method.target_modules", "exam.seeds", "metric",
          "objectives", "question", "sampler.negative_prompt", "character.identifier", "precision",
          "axes.lr", "axes.method", "optimizer.betas", "sampler.settings.timestep_spacing", "flip",
          "constraints.leak.most", "models", "name", "train_steps", "sweep", "tran_steps",
          "optimizer.weight_deacy", "method.rnak", "parts.a.lr", *ALIASES, *NEEDLESS]  # fmt: skip
VALUES = ["1e-4,1e-3", "choice(1,2)", "range(1,4)", "interval(1,2)", "glob(*)", "lora,gan", "[1,2]",
          "[]", "[1,2", "4", "dino", "[dino,clip_t]", "shuffle(1,2,3)", "lora", "lr_grid", "null",
          "What's best?", "a, b", "{a:1}", "1e-4", "'x", "true", "", "0,1",
          "to_q,to_k"]  # fmt: skip
ALONE = ["-m", "--multirun", "--lr=1e-4", "--network_dim=8", "lr", "bee", "2024", "--resume", "=",
         "hydra.run.dir=x", "+sweep=lr_grid", "+sweep=smoke", "search=tpe",
         "sampler=dpm"]  # fmt: skip


@st.composite
def mistakes_typed(draw: st.DrawFn) -> list[str]:
    """What people who know Hydra, or another trainer, type for lists, ranges, axes and names."""
    words = []
    for name in draw(st.lists(st.sampled_from(VARIED), min_size=1, max_size=2)):
        sign = draw(st.sampled_from(["", "", "", "+", "++", "+axes.", "axes.", "--"]))
        words.append(f"{sign}{name}={draw(st.sampled_from(VALUES))}")
    return [*draw(st.lists(st.sampled_from(ALONE), max_size=1)), *words]


# -- remedies --------------------------------------------------------------------------------------

# What a line of a message says to do: the words in place of the wrong ones, or none.
INSTEAD = re.compile(
    r"(?:; type |make them an axis: |in quotes: |space out: |parts of one: |plus signs?, as in |"
    r"plus sign out: |as a range: |should be a list, as in )(?P<words>.+)$"
)
ANOTHER_NAME = re.compile(r"should it be (?P<name>[\w.]+)\?")
ANOTHER_FILE = re.compile(r"^(?P<group>\w+)=.*; choose (?P<file>\w+)")
TAKEN_OUT = re.compile(r"take (?:it|one|the constraint) out|leave it out|leave one out")


def mended(words: list[str], line: str) -> list[str] | None:
    """The words with what a line of their message says to do; None where it asks for a thought."""
    wrong = line.partition(": ")[0]
    at = [place for place, word in enumerate(words) if _is_said(wrong, words, place)]
    if not at:
        return None
    start, end = at[0], at[-1] + 1
    if found := INSTEAD.search(line):
        text = re.split(r", or (?=put|make|choose)", found["words"])[0]
        with contextlib.suppress(ValueError):
            return [*words[:start], *shlex.split(text), *words[end:]]
    if found := ANOTHER_NAME.search(line):
        sign, name, rest = re.fullmatch(r"([+~]*)([^=]*)(.*)", words[start], re.S).groups()
        ours = found["name"]
        if "takes no" in line:  # which names a setting within
            ours = f"{name.rpartition('.')[0]}.{ours}"
        return [*words[:start], f"{sign}{ours}{rest}", *words[end:]]
    if found := ANOTHER_FILE.search(line):
        return [*words[:start], f"{found['group']}={found['file']}", *words[end:]]
    if TAKEN_OUT.search(line):
        return [*words[:start], *words[end:]]
    return None


def _is_said(wrong: str, words: list[str], place: int) -> bool:
    """Whether a line that begins so speaks of this word: the word, a run of them, or its name."""
    word = words[place]
    if wrong in (word, word.strip()):
        return True
    name, given = wrong.partition("=")[0].lstrip("+~"), word.partition("=")[0].lstrip("+~")
    if "=" in word[1:]:
        return bool(given) and (given == name or name.startswith(f"{given}."))
    return word in wrong.split()
