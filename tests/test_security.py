"""What comes from a stranger is data: configurations, captions, names, manifests, weights, images.

Each of them is given what would do harm elsewhere; what harm would leave behind must not be there.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from html import escape
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_sweep import EVIL, FakeSweep, result
from helpers.small import command
from PIL import Image

from charsweep.__main__ import main
from charsweep.actions.story.page import write_page
from charsweep.actions.sweep_record import new_record
from charsweep.character import load_character
from charsweep.config import load_settings, load_sweep
from charsweep.config.compose import GUARDED
from charsweep.core.errors import CharacterError, ConfigError, ModelsError, StoreError
from charsweep.core.plugins import PLACES, refused, resolve
from charsweep.core.specs import SnapshotSpec, TruthSpec
from charsweep.core.store import Store
from charsweep.core.store.files import inside
from charsweep.core.system.redact import redacted
from charsweep.models import embedded
from charsweep.models.kohya import tensors_in
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.weights import find_folder
from charsweep.report.figures.contact_sheets import ImageFiles, forget, image_files, read_image
from charsweep.results.cells import json_line, result_from

SECRET = "correct-horse-battery-staple"


# -- a configuration -------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for --config-dir, with a module beside it that would be imported if asked for."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "evil_module.py").write_text(
        f"open({str(tmp_path / 'marker')!r}, 'w').close()\nversion = 1\n"
        "class Evil:\n    version = 1\n    def __init__(self, *a, **k): pass\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("STRANGERS_WISH", SECRET)
    return folder


TARGETS = ["os.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "evil_module.Evil",
           "evil_module.version", "importlib.import_module", "torch.hub.load", "torch.load",
           "pickle.loads", "charsweep.train.methods.finetune.resolve",
           "charsweep.core.plugins.importlib", "charsweep.train.methods.finetune.dataclass",
           "charsweep.actions.run.run", "runpy.run_path",
           "diffusers.ConfigMixin", "optuna.samplers.os", "torch.optim.lr_scheduler.LambdaLR",
           "torch.optim..os.system", "torch.optim.AdamW.__init__.__globals__", ""]  # fmt: skip
GROUPS = ("method", "schedule", "optimizer", "sampler", "search.sampler", "search.pruner",
          "metric.dino")  # fmt: skip


@pytest.mark.parametrize("target", ["os.system", "evil_module.Evil", "charsweep.train.methods.x.y"])
def test_no_file_names_code_to_run(target: str, stranger: Path) -> None:
    """One file asks for it in every place that takes the name of a class."""
    marker, wish = stranger.parent / "marker", {}
    for group in GROUPS:
        *above, last = group.split(".")
        below: Any = wish
        for part in above:
            below = below.setdefault(part, {})
        below[last] = {"_target_": target, "name": "evil", "args": [f"touch {marker}"]}
    (stranger / "sweep").mkdir()
    (stranger / "sweep/evil.yaml").write_text(f"# @package _global_\n{json.dumps(wish)}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(["--config-dir", str(stranger), "search=tpe", "+sweep=evil"])
    for group in GROUPS if refused(target) else ("method", "schedule", "metric.dino"):
        assert group in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("target", TARGETS)
def test_no_name_reaches_what_is_no_plugin(target: str, stranger: Path) -> None:
    """Nor does one that a stored manifest gives: there is one way to a plug-in."""
    with pytest.raises(ConfigError, match="_target_"):
        resolve(target)
    assert not (stranger.parent / "marker").exists()


HOSTILE = {
    "YAML tag": "lr: !!python/object/apply:os.system ['touch {marker}']",
    "YAML object": "question: !!python/object/new:subprocess.Popen [['touch', '{marker}']]",
    "callback": "hydra: {{callbacks: {{evil: {{_target_: evil_module.Evil}}}}}}",
    "launcher": "hydra: {{launcher: {{_target_: evil_module.Evil}}}}",
    "logging": "hydra: {{job_logging: {{version: 1, handlers: {{evil: {{(): evil_module.Evil}}}}}},"
    " hydra_logging: {{version: 1, handlers: {{evil: {{(): evil_module.Evil}}}}}}}}",
    "environment of Hydra": "hydra: {{job: {{env_copy: [STRANGERS_WISH]}}}}\n"
    "question: ${{hydra.job.env_copy}} ${{hydra.job.env_set}}",
    "search path": "hydra: {{searchpath: ['pkg://evil_module']}}",
    "search path of a part": "parts: {{a: {{hydra.searchpath: ['pkg://evil_module']}}}}",
    "search path in a part": "parts: {{a: {{hydra: {{searchpath: ['pkg://evil_module']}}}}}}",
    "search path as an axis": "axes: {{hydra.searchpath: ['pkg://evil_module']}}",
    "environment": "question: ${{oc.env:STRANGERS_WISH}}",
    "environment, decoded": "question: ${{oc.decode:'${{oc.env:STRANGERS_WISH}}'}}",
    "root": "root: {folder}/elsewhere",
    "tracking": "runtime: {{tracking_uri: 'http://collector.example/'}}",
    "push": "export: {{push: mallory/loot}}",
    "cluster": "runtime: {{cluster: 'collector.example:6379'}}",
    "scratch": "runtime: {{scratch: {folder}/elsewhere}}",
    "removal": "action: gc\nstore: {{remove: true}}",
    "name of a folder": "method: {{name: ../../../evil}}",
    "name of a base": "models: {{bases: {{'../../evil': {{path: x, resolution: 64}}}}}}",
    "name of a metric": "metric: {{'../evil': {{_target_: charsweep.evaluate.metrics.dino.Dino}}}}",
    "embedded": "character: {{images: 'embedded:../../../../etc'}}",
}


INERT = ("callback", "launcher", "logging")  # Hydra's own, which is composed and thrown away


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_file_runs_nothing_and_reads_no_secret(
    name: str, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = stranger.parent / "marker"
    text = HOSTILE[name].format(marker=marker, folder=stranger)
    (stranger / "sweep").mkdir()
    (stranger / "sweep/evil.yaml").write_text(f"# @package _global_\n{text}\n")
    root = [] if name == "root" else [f"root={stranger.parent / 'root'}"]
    words = ["--config-dir", str(stranger), "+sweep=evil", *root]
    assert main([*words, "action=plan"]) == (0 if name in INERT else 2)
    if name in INERT:  # shown as it stands
        assert main(["--cfg", "job", *words]) == 0
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert "Traceback" not in said.err
    assert not marker.exists()
    assert [path.name for path in stranger.parent.iterdir()] == ["stranger"]


def test_hydra_itself_is_not_asked_about_a_strangers_folder(
    stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (stranger / "sweep").mkdir()
    (stranger / "sweep/evil.yaml").write_text("# @package _global_\n" + HOSTILE["logging"].format())
    for words in (["--help"], ["--info"], ["--hydra-help"], ["--cfg", "all"]):
        assert main([*words, "--config-dir", str(stranger), "+sweep=evil"]) == 2
        assert "--cfg job" in capsys.readouterr().err
    assert not (stranger.parent / "marker").exists()


def test_what_a_file_may_not_say_may_be_typed(stranger: Path) -> None:
    (stranger / "sweep").mkdir()
    (stranger / "sweep/evil.yaml").write_text("# @package _global_\nroot: /nowhere\n")
    with pytest.raises(ConfigError, match="type root=/nowhere"):
        load_settings(["--config-dir", str(stranger), "+sweep=evil"])
    settings = load_settings(["--config-dir", str(stranger), "+sweep=evil", "root=/nowhere"])
    assert settings.root == "/nowhere"
    own = load_settings([]).model_dump()
    for name, usual in GUARDED.items():
        group, _, field = name.rpartition(".")
        assert (own[group] if group else own)[field] == usual


def test_a_person_vouches_for_a_package_in_the_environment(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="CHARSWEEP_PLUGINS=PACKAGE"):
        resolve("evil_module.Evil")
    monkeypatch.setenv("CHARSWEEP_PLUGINS", "another,evil_module")
    assert resolve("evil_module.Evil").version == 1
    with pytest.raises(ConfigError):
        resolve("evil_module_too.Evil")
    with pytest.raises(ConfigError, match="is no plug-in"):
        resolve("evil_module.version")  # no class


def test_every_place_of_plugins_gives_what_it_is_for() -> None:
    """The list of places is not only narrow: what is named there for good can be reached."""
    good = ["charsweep.train.methods.gan.Gan", "charsweep.evaluate.metrics.dino.Dino",
            "torch.optim.SGD",
            "charsweep.train.schedules.Cosine", "diffusers.EulerDiscreteScheduler",
            "optuna.samplers.TPESampler", "optuna.pruners.MedianPruner",
            "charsweep.study.halving.Halving",
            "charsweep.actions.caption.zero_shot.ZeroShot",
            "charsweep.models.families.stable_diffusion.StableDiffusionXL",
            "charsweep.evaluate.encoders.ccip.Ccip",
            "bitsandbytes.optim.AdamW8bit", "prodigyopt.Prodigy"]  # fmt: skip
    assert {next(p for p in PLACES if one.startswith(f"{p}.")) for one in good} == set(PLACES)
    for target in good:
        if target.startswith(("bitsandbytes", "prodigyopt")):
            pytest.importorskip(target.partition(".")[0])
        assert isinstance(resolve(target), type)


# -- captions, names of files, metadata.jsonl ------------------------------------------------------


def drawings(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (64, 64), (index * 40, 0, 0)).save(folder / name, format="PNG")
    return folder


def character(folder: Path) -> Any:
    return load_character("x", folder, "Uni", "girl", "a picture of Uni", "a picture of a girl")


@pytest.mark.parametrize(
    "row",
    [
        {"file_name": "../outside.png", "text": "x"},
        {"file_name": "/etc/passwd", "text": "x"},
        {"file_name": "a\0.png", "text": "x"},
        {"file_name": "..", "text": "x"},
        {"file_name": {"a": 1}, "text": "x"},
        {"file_name": "1.png", "text": ["x"]},
    ],
)
def test_metadata_names_only_pictures_beside_it(row: dict[str, Any], tmp_path: Path) -> None:
    folder = drawings(tmp_path / "drawings", "1.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "outside.png")
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(CharacterError, match=r"metadata\.jsonl, line 1"):
        character(folder)


def test_nested_metadata_is_refused_and_a_script_is_a_caption(tmp_path: Path) -> None:
    folder = drawings(tmp_path / "drawings", "1.png")
    (folder / "metadata.jsonl").write_text("[" * 100_000)
    with pytest.raises(CharacterError, match=r"metadata\.jsonl"):
        character(folder)
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "1.png", "text": EVIL}))
    assert character(folder).spec.captions == (EVIL,)


QUOTED = "\"'><img src=x onerror=alert(1)>.png"


def test_scripts_in_captions_and_names_are_text_in_the_report(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]})
    Image.new("RGB", (40, 60)).save(tmp_path / QUOTED)
    sweep.sweep["character"]["images"] = [str(tmp_path / QUOTED)] * 2
    sweep.sweep["name"] = sweep.sweep["question"] = sweep.sweep["command"] = EVIL
    sweep.sweep["environment"] = {EVIL: EVIL}
    sweep.sweep["settings"] = {EVIL: EVIL}
    sweep.add("failed", lr=0.01)
    sweep.add(lr=0.001)
    page = sweep.report(plots=True)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert escape(EVIL) in page
    verdicts = (sweep.folder / "report" / "verdicts.md").read_text()
    assert "<script" not in re.sub("```.*?```", "", verdicts, flags=re.DOTALL)  # code is text


def test_scripts_in_a_story_are_text(tmp_path: Path) -> None:
    picture = tmp_path / QUOTED
    Image.new("RGB", (16, 16)).save(picture)
    one = {"seed": 0, "file": QUOTED, "dino": 0.5, "clip_t": 0.3, "standing": 1.0}
    scene = {"number": 1, "prompt": EVIL, "caption": EVIL, "seed": 0, "chosen_by": EVIL}
    story = {"title": EVIL, "rule": EVIL, "sweep": EVIL, "scenes": [{**scene, "candidates": [one]}]}
    story |= {"size": [16, 16]}
    write_page(story, EVIL, tmp_path, True, tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert escape(EVIL) in page


def test_scripts_in_mlflows_notes_are_text(tmp_path: Path) -> None:
    from charsweep.results import judge
    from charsweep.track.ui_view import note_while_running, note_with_verdict
    from charsweep.track.values import links

    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]})
    sweep.sweep["question"] = f"{EVIL} [here](javascript:alert(1))"
    sweep.sweep["command"] = f"` {EVIL} `"
    sweep.add(lr=0.001)
    sweep.write()
    notes = [
        note_while_running(sweep.sweep),
        note_with_verdict(sweep.sweep, judge(sweep.record()), None),
        links(result_from(sweep.add("failed", lr=0.01)))["mlflow.note.content"],
    ]
    for note in notes:
        # a code span, between as many backquotes on either side, is text
        around = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", note)
        assert "`" not in around
        assert "<script" not in around
        assert "[here](" not in note


# -- stored manifests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../secret", "/etc", "a/../../../secret", "x\0y", "link/x"])
def test_no_stored_name_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "link").symlink_to("/etc")
    with pytest.raises(StoreError, match="leads out of"):
        inside(folder, name)
    assert inside(folder, "a/b.png") == folder / "a" / "b.png"


def test_a_manifest_shows_no_picture_from_elsewhere(tmp_path: Path) -> None:
    sweep = FakeSweep(tmp_path, {"lr": [0.01, 0.001]})
    secret = tmp_path / "private.png"
    Image.new("RGB", (16, 16), (1, 2, 3)).save(secret)
    cell = sweep.add(lr=0.001)
    manifest = sweep.store / cell["images"] / "images.json"
    content = json.loads(manifest.read_text())
    for name in ("../../../../../private.png", str(secret), "link.png"):
        (manifest.parent / "link.png").unlink(missing_ok=True)
        (manifest.parent / "link.png").symlink_to(secret)
        content["files"][0]["file"] = name
        manifest.write_text(json.dumps(content))
        forget()
        assert image_files(sweep.store, cell["images"]) == ImageFiles()
    assert image_files(sweep.store, "../../..") == ImageFiles()
    cell["trajectory"] = "../../.."
    with pytest.raises(StoreError, match="leads out of"):
        sweep.record()


def test_a_server_writes_nowhere_else(tmp_path: Path) -> None:
    """What MLflow's server says of names is not believed when a sweep is fetched from it."""
    from charsweep.track.fetch import Source, fetch_cell
    from charsweep.track.pictures import contact_sheet, cut

    folder = tmp_path / "store" / "set"
    folder.mkdir(parents=True)
    row = tmp_path / "row.png"
    Image.new("RGB", (8, 8)).save(row)
    manifest = {"files": [{"file": "../../evil.png", "prompt": 0}], "prompts": ["x"]}
    with pytest.raises(StoreError, match="leads out of"):
        cut({0: row}, manifest, folder)
    (folder / "images.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="leads out of"):
        contact_sheet(folder)

    class Client:
        """A server that answers with a cell of its own making."""

        def list_artifacts(self, run: str, below: str | None = None) -> list[Any]:
            return [type("Item", (), {"path": name}) for name in ("cell.json", "spec.json")]

        def download_artifacts(self, run: str, path: str, place: str) -> str:
            made = Path(place) / "cell.json"
            evil = result(cell="1", trajectory="../../evil", images="../../evil", scores={})
            made.write_text(json_line(evil))
            return str(made)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run: Any = type("Run", (), {"info": type("Info", (), {"run_id": "1", "run_name": "x"})})
    with pytest.raises(StoreError, match="leads out of"):
        fetch_cell(Source(Client(), scratch), run, tmp_path / "store")  # type: ignore[arg-type]
    run.info.run_id = "../../elsewhere"
    with pytest.raises(StoreError, match="leads out of"):
        Source(Client(), scratch).file(run, "cell.json")  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*evil*"))


def test_a_spec_names_no_other_folder(tmp_path: Path) -> None:
    spec = SnapshotSpec(TruthSpec("../../../evil", (), 64), 0)
    with pytest.raises(StoreError, match="plain name"):
        Store(tmp_path).snapshot(spec)
    with pytest.raises(ModelsError, match="not part of this installation"):
        find_folder("embedded:../../..")


# -- weights and pictures --------------------------------------------------------------------------


def tensors(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: Any = (4,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HEADERS = {
    "a length of 16 EiB": tensors({"a": entry(0, 16)}, length=2**64 - 1),
    "a length of 90 MB in a small file": tensors({"a": entry(0, 16)}, length=90_000_000),
    "overlapping tensors": tensors({"a": entry(0, 16), "b": entry(8, 16, (2,))}),
    "a hole": tensors({"a": entry(0, 8, (2,)), "b": entry(12, 16, (1,))}),
    "an absurd shape": tensors({"a": entry(0, 16, (2**40, 2**40))}),
    "a negative shape": tensors({"a": entry(0, 16, (-2, -2))}),
    "a shape of many numbers": tensors({"a": entry(0, 16, [9] * 100_000)}),
    "a shape of truth": tensors({"a": {**entry(0, 4), "shape": [True]}}),
    "offsets backwards": tensors({"a": entry(16, 0)}),
    "offsets beyond the file": tensors({"a": entry(0, 2**62, (2**60,))}),
    "no offsets": tensors({"a": {"dtype": "F32", "shape": [4]}}),
    "nested without end": tensors(b"[" * 100_000),
    "no object": tensors(b"[1, 2]"),
    "no tensors": tensors({"__metadata__": {"format": "pt"}}),
    "a number with many digits": tensors(b'{"a": ' + b"9" * 10_000 + b"}"),
    "nothing": b"",
    "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_cannot_ask_for_more_than_its_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HEADERS[name])
    for read in (tensor_shapes, tensors_in):
        with pytest.raises(ModelsError, match=r"model\.safetensors"):
            read(path)
    good = tmp_path / "good.safetensors"
    good.write_bytes(tensors({"a": entry(0, 8, (2,)), "b": entry(8, 16, (1, 2))}))
    assert tensor_shapes(good) == {"a": [2], "b": [1, 2]}


def test_an_adapter_with_a_hostile_header_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(HEADERS["an absurd shape"])
    words = ["action=story", f"story.adapter={path}", f"root={tmp_path}", "runtime.tracking=false"]
    assert main(words) == 2
    assert "evil.safetensors" in capsys.readouterr().err
    with pytest.raises(ModelsError, match="pickled code"):
        load_sweep(["models.bases.sdxl.path=evil.ckpt"])


@pytest.mark.parametrize("library", ["evil_module", "os", "", ["diffusers"]])
@pytest.mark.parametrize("place", [".", "unet"])
def test_a_pipeline_names_no_library_of_its_own(
    library: Any, place: str, stranger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """diffusers imports the module that an index names for a part, also of a part that has one."""
    folder = stranger / "model"
    (folder / "unet").mkdir(parents=True)
    good = {"_class_name": "StableDiffusionXLPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps(good))
    evil = json.dumps({**good, "unet": [library, "Evil"]})
    (folder / place / "model_index.json").write_text(evil)
    words = ["action=plan", f"root={stranger}", f"models.bases.sdxl.path={folder}"]
    assert main(words) == 2
    assert "none of the libraries" in capsys.readouterr().err
    assert not (stranger.parent / "marker").exists()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


PICTURES = {
    "a bomb": bomb(60_000, 60_000),
    "too many pixels": bomb(10_001, 10_001),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(evil) run\n",
    "a GIF": b"GIF89a" + bytes(40),
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "torn": b"\x89PNG\r\n\x1a\n" + bytes(20),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_decoded_within_limits(name: str, tmp_path: Path) -> None:
    from charsweep.track.pictures import contact_sheet

    folder = drawings(tmp_path / "drawings")
    (folder / "000.png").write_bytes(PICTURES[name])
    with pytest.raises(CharacterError):
        character(folder)
    assert read_image(folder / "000.png", 100) is None
    manifest = {"files": [{"file": "000.png", "prompt": 0, "seed": 0}], "prompts": ["x"]}
    (folder / "images.json").write_text(json.dumps(manifest))
    with pytest.raises((OSError, SyntaxError, ValueError, Image.DecompressionBombError)):
        contact_sheet(folder)


# -- secrets ---------------------------------------------------------------------------------------

URI = f"postgresql://me:{SECRET}@db.example:5432/mlflow"


def test_passwords_and_tokens_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-form")
    for text in (
        f"runtime.tracking_uri={URI}",
        f"cannot open 'https://me:{SECRET}@h:5000': refused",
        f"mysql://h/d?user=me&password={SECRET}&ssl=1",
        f"study=postgresql+psycopg://me:5/{SECRET}@h/d?sslpassword={SECRET}",
        f"Bearer hf_{SECRET.replace('-', '')}",
        "token a-token-of-another-form",
    ):
        shown = redacted(text)
        assert SECRET not in shown
        assert SECRET.replace("-", "") not in shown
        assert "another-form" not in shown
        assert "***" in shown
    for text in ("http://127.0.0.1:5000/#/x@y", "a: b@c", str(Path("/a/b@c:d")), "OWNER/NAME@main"):
        assert redacted(text) == text


def test_no_record_holds_a_password(tmp_path: Path) -> None:
    words = [f"root={tmp_path}", f"runtime.tracking_uri={URI}", "train_steps=1"]
    sweep = load_sweep(words)
    record = json.dumps(new_record(sweep, Store(tmp_path), {}))
    assert SECRET not in record
    assert "me:***@db.example" in record


def test_no_message_and_no_file_holds_a_password(tmp_path: Path) -> None:
    """A database that cannot be reached: its address stands in the error, in logs and records."""
    server = f"http://me:{SECRET}@127.0.0.1:9/"
    words = [f"root={tmp_path}", f"runtime.tracking_uri={server}", "action=report", "name=x"]
    FakeSweep(tmp_path, {"lr": [0.01, 0.001]}, name="x").record()
    done = command(*words, CHARSWEEP_DEBUG="1", HF_TOKEN=SECRET)  # with tracebacks
    assert done.returncode == 2
    assert "no MLflow server" in done.stderr
    assert "Traceback" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "tracking.log" for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_a_bad_word_is_not_repeated_with_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([f"runtime.tracking_uri=[{URI}]"], [f"runtime.nope={URI}"], [f"{URI}="]):
        assert main([*words, f"root={tmp_path}"]) == 2
        assert SECRET not in capsys.readouterr().err


# -- servers and telemetry -------------------------------------------------------------------------


def test_the_ui_is_on_loopback_with_host_checks_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from charsweep.actions import ui

    started: dict[str, Any] = {}

    class Started(Exception):  # noqa: N818  # stands for a server
        pass

    def popen(command: list[str], **options: Any) -> None:
        started.update(options, command=command)
        raise Started

    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
    monkeypatch.setattr("charsweep.actions.ui.subprocess.Popen", popen)
    with pytest.raises(Started), ui.served(URI, "http://127.0.0.1:5999", tmp_path):
        pass
    assert "127.0.0.1" in started["command"]
    assert SECRET not in " ".join(started["command"])  # any user of the machine may see it
    assert started["env"]["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] == "false"
    assert started["env"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_telemetry_is_off_before_any_library_is_imported() -> None:
    import subprocess
    import sys

    names = ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    code = f"import os, charsweep.__main__; print(*(os.environ.get(n) for n in {names}))"
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert done.stdout.split() == ["true", "1", "true"]


def test_what_ships_is_plain_data() -> None:
    """No pickle and no code lies among the embedded models' files."""
    kinds = {path.suffix for path in embedded.FOLDER.rglob("*") if path.is_file()}
    weights = {p.suffix for p in (embedded.FOLDER / "weights").rglob("*") if p.is_file()}
    assert weights <= {".safetensors", ".json", ".txt", ".md"}
    assert not kinds & {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".npy"}
