"""Messages for mistyped words of the command line, in a sentence each.

Hydra's own messages speak of its grammar and its structs. What people mistype is known, so it is
said here what to type instead; of anything else, Hydra's first line.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from charsweep.config.schema import can_vary, is_list, may_be_text, schemas_of
from charsweep.config.settings.groups import EXAM_PARTS, OF_TWO
from charsweep.config.settings.search import FindSettings
from charsweep.config.typed_words import parsed
from charsweep.core.errors import ConfigError, shown
from charsweep.core.plugins import CONF
from charsweep.core.signatures import parameters_of
from charsweep.core.system.console import quoted
from charsweep.core.words import holds

NAME = re.compile(r"[^\W\d][\w$-]*([./@:][\w$-]+)*")
# What others call our settings.
THEIRS = {
    "lr": "learning_rate unet_lr",
    "train_steps": "steps max_steps max_train_steps num_train_steps epoch epochs num_epochs "
                   "num_train_epochs max_train_epochs repeats num_repeats dataset_repeats",
    "inference_steps": "num_inference_steps sample_steps sampling_steps",
    "strength": "lora_strength lora_scale lora_weight adapter_weight strength_model multiplier "
                "network_multiplier network_mul",
    "batch_size": "train_batch_size gradient_accumulation_steps gradient_accumulation",
    "precision": "mixed_precision save_precision",
    "framing": "enable_bucket random_crop center_crop",
    "flip": "flip_aug random_flip",
    "schedule": "lr_scheduler", "schedule.warmup_steps": "lr_warmup_steps",
    "optimizer": "optimizer_type",
    "method.rank": "network_dim network_rank lora_rank dim",
    "method.alpha": "network_alpha lora_alpha",
    "method.text_encoder": "train_text_encoder",
    "method.prior_weight": "with_prior_preservation prior_loss_weight",
    "method.class_images": "num_class_images",
    "method.min_snr_gamma": "snr_gamma",
    "sampler": "scheduler", "sampler.guidance_scale": "cfg_scale cfg",
    "exam.prompts": "validation_prompt validation_prompts sample_prompts",
    "character.images": "instance_data_dir train_data_dir image_dir dataset",
    "character.identifier": "trigger_word trigger token instance_token placeholder_token",
    "character.class_noun": "class_token",
    "models": "model", "models.bases.sdxl.vae": "vae",
    "models.bases.sdxl.path": "pretrained_model_name_or_path pretrained_model base_model "
                              "checkpoint",
    "root": "output_dir logging_dir", "name": "output_name run_name",
    "runtime.tracking": "report_to log_with", "runtime.checkpointing": "gradient_checkpointing",
    "runtime.stop_after": "max_time time_limit walltime max_train_time timeout",
    "export.push": "push_to_hub hub_model_id",
}  # fmt: skip
ALIASES = {their: ours for ours, words in THEIRS.items() for their in words.split()}
AGAIN = "the same command, given again, goes on where it stopped, so take it out"
SNAPSHOTS = "what is judged is kept, so take it out; as an axis: +axes.train_steps=[100,200]"
# What they ask for that needs no setting.
NEEDLESS = {"resume": AGAIN, "resume_from_checkpoint": AGAIN, "resume_from": AGAIN,
            "save_every_n_steps": SNAPSHOTS, "save_every_n_epochs": SNAPSHOTS,
            "checkpointing_steps": SNAPSHOTS, "save_steps": SNAPSHOTS}  # fmt: skip
EXAMPLE = "write NAME=VALUE, as in lr=1e-3 or method.rank=8"
MOST_PROBLEMS = 10  # mistyped words that are told at once
MOST_VALUES = 50  # of an axis that a message spells out
# What Hydra says -> what to do instead; {name} is the setting, {word} what was typed.
SAID = (
    (r"Could not override '(?P<name>[^']*)'\.?\s+(?:Did you mean|No match)", "{no_group}"),
    (r"config group '(?P<name>[^']*)' does not exist", "{no_group}"),
    (r"Could not delete '(?P<name>[^'=]*).*No match", "{no_group}"),
    (r"Could not override '(?P<name>[^']*)'", "{no_setting}"),
    (r"An item is already at '(?P<name>[^']*)'",
     "{word}: {name} is there already; leave the plus sign out: {bare}"),
    (r"Multiple values for (?P<name>[\w/@]+)",
     "{word}: {name} is chosen already; leave the plus sign out: {bare}"),
    (r"force-add of config groups is not supported: '\+\+(?P<name>[^=']*)",
     "{word}: {name} is a group; choose a file of it without plus signs, as in {bare}"),
    (r"Config group override (?P<name>\w*).*must be",
     "a group is given what is no name of a file; choose one of conf/, as in method=lora"),
    (r"delete from config\. '(?P<name>[^']*)' does not exist", "{no_setting}"),
    (r"delete from config\. The value of '(?P<name>[^']*)'",
     "{word}: it has another value; write ~{name} to take it out whatever its value is"),
)  # fmt: skip


# -- one word at a time ----------------------------------------------------------------------------


def check_words(typed: Sequence[str], meant: Sequence[str]) -> None:
    """ConfigError for words that are none of Hydra's, or that stand for several commands."""
    problems = [*_without_name(typed), *_options(typed)]
    problems += [
        problem
        for word, other in zip(typed, meant, strict=True)
        if not _is_bare(word) and word[:1] != "-" and (problem := _problem(word, other))
    ]
    sweeps = [word for word in typed if _name_of(word) == "sweep" and word[0] != "~"]
    if len(sweeps) > 1:
        names = [word.partition("=")[2] for word in sweeps]
        problems.append(_two_sweeps(" ".join(sweeps), names))
    if problems:
        more = len(problems) - MOST_PROBLEMS
        rest = [f"and {more} more like these; mend them too"] if more > 0 else []
        raise ConfigError("\n".join(dict.fromkeys([*problems[:MOST_PROBLEMS], *rest])))


def _two_sweeps(given: str, names: Sequence[str]) -> str:
    parts = ",".join(f"{name}:{{sweep:{name}}}" for name in dict.fromkeys(names))
    return (
        f"{shown(given)}: a command runs one sweep; give one of them, or make them parts of one: "
        f"name=both {quoted([f'parts={{{parts}}}'])}"
    )


def _is_bare(word: str) -> bool:
    """Whether a word gives nothing to any name."""
    return bool(word.strip()) and ("=" not in word or word == "=") and word[0] not in "~-"


def _without_name(words: Sequence[str]) -> Iterator[str]:
    """A sentence for each run of words without =, and what it was meant as."""
    before = ""
    for is_bare, run in itertools.groupby(words, _is_bare):
        together = list(run)
        text = " ".join(together)
        if not is_bare:
            before = together[-1]
            continue
        if before[:1] == "-":  # whose value it is
            continue
        name, *values = re.split(r"[:\s=]+", text, maxsplit=1)
        following = values and values[0]
        if before.partition("=")[1] and may_be_text(_name_of(before)):
            ours = f"put the whole text in quotes: {quoted([f'{before} {text}'])}"
        elif before.endswith("="):
            ours = f"leave the space out: {quoted([before + text])}"
        elif following and (schemas_of(name) or name in ALIASES):
            ours = f"type {quoted([f'{ALIASES.get(name, name)}={following}'])}"
        else:
            ours = f"{EXAMPLE}, and a value with spaces in quotes"
        yield f"{shown(text)}: stands without a name and =; {ours}"


def _options(words: Sequence[str]) -> Iterator[str]:
    """A sentence for each word that begins with a dash, and for what follows it."""
    for word, following in itertools.pairwise([*words, ""]):
        if word[:1] != "-":
            continue
        name, _, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        ours = ALIASES.get(name, name)
        value = value or (following if _is_bare(following) else "VALUE")
        if word in ("-m", "--multirun"):
            yield (
                f"{word}: every combination of the axes is run without it; leave it out, and list "
                "what varies, as in +axes.lr=[1e-3,1e-4]"
            )
        elif name in NEEDLESS:
            yield f"{shown(word)}: {NEEDLESS[name]}"
        elif name and schemas_of(ours):
            yield f"{shown(word)}: settings have no dashes; type {quoted([f'{ours}={value}'])}"
        else:
            yield f"{shown(word)}: no such option; see python -m charsweep --help"


def _problem(word: str, meant: str) -> str | None:
    given, (name, _, value) = shown(word.strip()), word.lstrip("+~").partition("=")
    if not word.strip():
        return f"'{given}' is no setting; {EXAMPLE}"
    if any(not char.isprintable() and not char.isspace() for char in word):
        return f"{given}: holds a character that is no text; type it without"
    if re.match(r"hydra\b(?!\.searchpath)", name):
        return (
            f"{given}: is Hydra's own, and nothing here heeds it; take it out: root=FOLDER and "
            "name=NAME say where results go"
        )
    override = parsed(meant)
    if override is None:
        if not NAME.fullmatch(name):
            return f"{given}: '{shown(name)}' is no name of a setting; {EXAMPLE}"
        return (
            f"{given}: its value cannot be read; close every bracket and quotation mark, and put "
            f"a text that holds any of them, commas or colons in quotes: \"{name}='a, b'\""
        )
    return _several(given, name, value, override) if override.is_sweep_override() else None


def _several(given: str, name: str, value: str, override: Override) -> str:
    """Several values where one is asked for: Hydra's ways to vary a setting are an axis here."""
    swept: Any = override.value()
    axis = name if name.startswith("axes.") else f"axes.{name}"
    if isinstance(swept, IntervalSweep):
        span = quoted([f"+{axis}={{low:{swept.start:g},high:{swept.end:g}}}"])
        return f"{given}: is a range, which a search samples as an axis; type search=tpe {span}"
    files = sorted(path.stem for path in (CONF / name).glob("*.yaml"))
    if isinstance(swept, Glob):
        if not (values := swept.filter(files)):
            return f"{given}: there are no such files; choose one of conf/, as in method=lora"
        listed = ",".join(values)
    elif isinstance(swept, ChoiceSweep) and swept.simple_form and not swept.shuffle:
        listed = value
    else:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_VALUES + 1))
        if len(values) > MOST_VALUES:
            return (
                f"{given}: is more than {MOST_VALUES} values; list fewer as an axis, as in "
                f"+{axis}=[{values[0]},{values[1]}]"
            )
        listed = ",".join(values)
    as_text = f"\"{name}='{shown(value)}'\""
    if name == "sweep":
        return _two_sweeps(given, listed.split(","))
    if is_list(name) or name == axis:
        return (
            f"{given}: is a list, which stands in brackets; type {quoted([f'{name}=[{listed}]'])}"
        )
    if may_be_text(name) and not can_vary(name):
        return f"{given}: takes one text; give one, or put a text with commas in quotes: {as_text}"
    if not can_vary(name):
        return f"{given}: takes one value; give one of them"
    ours = quoted([f"+{axis}=[{listed}]"])
    text = f", or put a text in quotes: {as_text}" if may_be_text(name) else ""
    return f"{given}: is more than one value; make them an axis: {ours}{text}"


# -- all together ----------------------------------------------------------------------------------


def explain(error: Exception, words: Sequence[str]) -> str:
    """What Hydra or OmegaConf could not do with these words, and what to type instead."""
    if sweep := next((word for word in words if word.startswith("sweep=")), None):
        return f"{shown(sweep)}: a sweep is added with a plus sign; type +{shown(sweep)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, file = error.missing_cfg_file.rpartition("/")
        known = error.options or sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return (
            f"{group}={shown(file)}: there is no conf/{group}/{shown(file)}.yaml; choose "
            f"{', '.join(known)}"
        )
    text = str(error)
    for pattern, instead in SAID:
        if found := re.search(pattern, text, re.DOTALL):
            return _instead(instead, found["name"], words)
    where = getattr(error, "full_key", None)
    if "nterpolation" in text:
        return _interpolation(text, str(where or ""))
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    given = shown(" ".join(words), 300) or "nothing"
    return (
        f"{f'{where}: ' if where else ''}{shown(line, 300)}; mend one of the words given: {given}"
    )


def _instead(instead: str, name: str, words: Sequence[str]) -> str:
    word = next((given for given in words if _name_of(given) == name), name)
    told = {"{no_group}": _no_group, "{no_setting}": _no_setting}
    if instead in told:
        return told[instead](name, word, words)
    return instead.format(word=shown(word), name=shown(name), bare=shown(word.lstrip("+~")))


def _name_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _no_group(name: str, word: str, _: Sequence[str]) -> str:
    groups = [group for group, value in _composed().items() if isinstance(value, Mapping)]
    near = difflib.get_close_matches(name, groups, 1)
    return f"{shown(word)}: there is no group {shown(name)}; {_try(near)}"


def _no_setting(name: str, word: str, words: Sequence[str]) -> str:
    known = list(names(_composed()))
    top, _, rest = name.partition(".")
    if re.fullmatch(r"exam\.parts\.\w+\.size", name) and not word.startswith("+"):
        return f"{shown(word)}: that part says no size yet, and one is added; type +{shown(word)}"
    if part := _part_in(name, word):
        has = {"together": "company", "other": ""}.get(part, "positions")
        choose = f"choose exam={has}, which has it, or " if has else ""
        return (
            f"{shown(word)}: this exam has no part {part}; {choose}add it whole, as in "
            f"'+exam.parts.{part}={{prompts: [TEXT], seeds: [0]}}'"
        )
    if rest and name in known:  # which another file of the group has
        chosen = [given for given in words if _name_of(given) == top]
        return (
            f"{shown(word)}: {chosen[-1] if chosen else top} has no {rest}; take it out, or choose "
            f"another {top}"
        )
    if top == "find":  # which search=find brings
        if rest in FindSettings.model_fields and not any(w.endswith("=find") for w in words):
            return f"{shown(word)}: is for a search in stages; add search=find, or +sweep=find"
        known = [f"find.{field}" for field in FindSettings.model_fields]
    if name in NEEDLESS:
        return f"{shown(word)}: {NEEDLESS[name]}"
    near = nearest(name, known)
    return f"{shown(word)}: there is no setting {shown(name)}; {_try(near)}"


def _part_in(name: str, word: str) -> str:
    """The part of the exam that a word sets, or what every part has of it; "" for none."""
    found = re.fullmatch(r"exam\.parts(?:\.(\w+)(?:\.(?:prompts|seeds))?)?", name)
    if not found:
        return ""
    asked = found[1] or next((part for part in OF_TWO if holds(word, part)), "")
    return asked if asked in EXAM_PARTS else ""


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The settings that a name may stand for: what others call it, where it lies, or alike."""
    if name in ALIASES:
        return [ALIASES[name]]
    within = [setting for setting in known if setting.endswith(f".{name}")]
    return within or difflib.get_close_matches(name, known, 1)


def untaken(where: str, target: str, given: Mapping[str, Any]) -> list[str]:
    """A line for each setting that a class does not take."""
    try:
        taken = parameters_of(target)
    except ConfigError as error:
        return [f"{where.partition('.')[0]}: {error}"]
    problems = []
    for name, value in given.items():
        if taken is None or name in taken or name == "_target_":
            continue
        near = difflib.get_close_matches(name, taken, 1)
        all_taken = ", ".join(sorted(taken - {"params", "lr"}))
        ours = f"should it be {near[0]}?" if near else f"take it out. It takes {all_taken}"
        problems.append(
            f"{where}.{name}={shown(value)}: {target.rpartition('.')[2]} takes no {name}; {ours}"
        )
    return problems


def _try(near: Sequence[str]) -> str:
    every = "python -m charsweep --cfg job"
    if near:
        return f"should it be {near[0]}? All that there are: {every}"
    return f"see all that there are with {every}"


def _interpolation(text: str, where: str) -> str:
    if unset := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{unset[1]} is not set; give it as {unset[1]}=VALUE"
    line = re.sub(r"^\w+ raised while resolving interpolation: ", "", text.splitlines()[0])
    return (
        f"{where}: {shown(line, 300)}; ${{NAME}} stands for another setting's value: name one that "
        "there is, or write \\${ for a text that has it"
    )


def _composed() -> dict[str, Any]:
    plain = OmegaConf.to_container(compose("config"), resolve=False)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def names(raw: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, groups included."""
    for name, value in raw.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from names(value, f"{prefix}{name}.")
