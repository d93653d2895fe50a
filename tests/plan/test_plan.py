"""What the plan says must be done, and that saying it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.adapter_files import adapter_file
from helpers.small import small, sweep_of
from helpers.tiny_bases import TINY, write_tiny
from helpers.tiny_sd3 import write_sd3

from charsweep.actions.validate import OF_TWO
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.keys import differences, key_of, short_number
from charsweep.core.plugins import CONF
from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.files import write_json
from charsweep.models.embedded import FOLDER
from charsweep.plan import cost, memory, once_done, plan_work


def test_step_counts_and_inference_steps_share_one_trajectory(tmp_path: Path) -> None:
    steps = ",".join(str(n) for n in range(10, 201, 10))
    inference = ",".join(str(n) for n in range(10, 101, 10))
    sweep = sweep_of(
        tmp_path, f"+axes.train_steps=[{steps}]", f"+axes.inference_steps=[{inference}]"
    )
    plan = plan_work(sweep.cells, Store(tmp_path))
    assert len(sweep.cells) == 200
    assert len(plan.trainings) == 1
    assert plan.steps_needed == 200
    assert plan.steps_asked == 10 * sum(range(10, 201, 10))
    assert plan.trainings[0].snapshots == tuple(range(10, 201, 10))
    assert len(plan.trainings[0].scorings) == 200


def test_one_untaught_set_serves_all_values_of_inference_steps(tmp_path: Path) -> None:
    """What identity is measured from does not move along the axis, nor is it drawn again."""
    sweep = sweep_of(tmp_path, "inference_steps=4", "+axes.inference_steps=[2,4,8]")
    (cell,) = sweep_of(tmp_path, "inference_steps=4").cells
    assert [one.images.inference_steps for one in sweep.cells] == [2, 4, 8]
    for one in sweep.cells:
        assert one.untaught_set == cell.untaught_set
        assert one.class_noun_set == cell.class_noun_set
        assert [part.untaught for part in one.parts] == [part.untaught for part in cell.parts]
        assert {part.images.inference_steps for part in one.parts} <= {one.images.inference_steps}
    drawn = plan_work(sweep.cells, Store(tmp_path)).references
    assert [one.images.key for one in drawn] == [
        one.images.key for one in plan_work([cell], Store(tmp_path)).references
    ]


def test_a_plan_once_others_are_done_lacks_what_they_make(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "+axes.train_steps=[4,8,16]", "+axes.lr=[1e-3,1e-4]")
    store, steps = Store(tmp_path), {cell.key: cell.step for cell in sweep.cells}
    short, long = (
        plan_work([c for c in sweep.cells if steps[c.key] in some], store)
        for some in ((4,), (8, 16))
    )
    after = once_done(long, [short])
    assert (short.steps_needed, long.steps_needed, after.steps_needed) == (8, 32, 24)
    assert [training.spans[0].start for training in after.trainings] == [4, 4]
    assert [training.snapshots for training in after.trainings] == [(8, 16), (8, 16)]
    assert long.references
    assert not after.references
    assert all(scoring.draw for training in after.trainings for scoring in training.scorings)
    assert once_done(long, [short, long]).is_done


def test_seeds_are_an_axis_in_one_word(tmp_path: Path) -> None:
    short = sweep_of(tmp_path, "seeds=3", "+axes.lr=[1e-3,1e-4]")
    long = sweep_of(tmp_path, "+axes.lr=[1e-3,1e-4]", "+axes.seed=[0,1,2]")
    assert [cell.key for cell in short.cells] == [cell.key for cell in long.cells]
    assert dict(short.axes) == dict(long.axes)
    with pytest.raises(ConfigError, match="leave one out"):
        sweep_of(tmp_path, "seeds=3", "+axes.seed=[0,1]")


SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))


def test_there_are_as_many_sweeps_as_are_planned_here() -> None:
    assert len(SWEEPS) == 17


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_composes_plans_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    more = [f"adapters=[{adapter_file(tmp_path / 'a.safetensors')}]"] if name == "compare" else []
    sweep = load_sweep([f"root={tmp_path}", f"+sweep={name}", *more])
    plan = plan_work(sweep.examples, Store(tmp_path))
    assert sweep.name == name
    assert bool(sweep.cells) == sweep.settings.is_grid
    assert 0 < plan.steps_needed <= plan.steps_asked or not sweep.settings.train
    head = (CONF / "sweep" / f"{name}.yaml").read_text().splitlines()[1:4]
    assert [line.split()[1] for line in head] == ["Question", "Command", "Cost"]
    assert f"python -m charsweep +sweep={name}" in head[1]


BESIDE = ("character=candyland", "character=star_kite")  # taught beside a character alone
CHOICES = sorted(
    choice
    for path in CONF.glob("*/*.yaml")
    if path.parent.name != "sweep" and (choice := f"{path.parent.name}={path.stem}") not in BESIDE
)
NEEDED = {  # what a person must say too
    "character=none": ["train=false", "character.identifier=Zwx"],
    "company=together": ["characters=[unicorn_girl,thunder_bear]"],
    "character=folder": [f"character.images={FOLDER / 'unicorn_girl'}"],
    "models=hub": [
        f"models.{kind}.{name}.path=embedded:weights/{name}"
        for kind, names in (("bases", ["sd15", "sdxl"]), ("encoders", ["clip", "dino"]))
        for name in names
    ],
    **{
        f"models={base}": [
            f"models.encoders.{name}.path=embedded:weights/{name}" for name in ("clip", "dino")
        ]
        for base in ("sd3", *TINY)
    },
    **{
        f"{group}={name}": [f"encoder.{name}.path=embedded:weights/{what}"]
        for group in ("encoder", "metric")
        for name, what in (("dinov2", "dino"), ("dinov3", "dino"), ("siglip2", "clip"))
    },
    "search=halving": ["objectives=[dino]", "+axes.lr=[1e-3,1e-4]"],
    "search=race": ["exam.seeds=[0,1,2,3]"],
    "search=nsga2": ["+axes.lr=[1e-3,1e-4]"],
    "search=tpe": ["+axes.lr=[1e-3,1e-4]"],
}


def test_there_are_as_many_choices_as_are_planned_here() -> None:
    assert len(CHOICES) == 77
    assert len({choice.partition("=")[0] for choice in CHOICES}) == 16


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_conf_composes_and_plans(choice: str, tmp_path: Path) -> None:
    group, _, name = choice.partition("=")
    words = [choice]
    if group == "metric":  # of some, the exam must have a part
        metrics = dict.fromkeys(["score", name])
        words = [f"metric=[{','.join(metrics)}]", "exam=positions"]
    if group == "encoder":
        words = [f"encoder=[{name}]", f"metric.dino.encoder={name}"]
    if name == "ccip":  # of which planning reads no more than that it is there
        for file in ("model_feat.onnx", "model_metrics.onnx"):
            (tmp_path / file).write_bytes(b"")
        words.append(f"encoder.ccip.path={tmp_path}")
    if choice == "models=sd3":  # nothing of it ships
        words.append(f"models.bases.sd3.path={write_sd3(tmp_path / 'sd3', t5=False)}")
    if name in TINY and group == "models":
        folder = write_tiny(name, tmp_path / name)
        named = [name, *{"klein": ["klein_distilled"], "krea2": ["krea2_turbo"]}.get(name, [])]
        words += [f"models.bases.{base}.path={folder}" for base in named]
    if choice == "character=none":  # of whom nothing can be taught
        words.append(f"adapters=[{adapter_file(tmp_path / 'a.safetensors')}]")
    sweep = sweep_of(tmp_path, *words, *NEEDED.get(choice, []))
    plan = plan_work(sweep.examples, Store(tmp_path))
    assert plan.steps_needed == sum(training.steps for training in plan.trainings)
    assert bool(plan.steps_needed) == sweep.settings.train
    if group == "metric":
        (cell,) = sweep.examples
        asked = [*cell.metrics, *(metric for part in cell.parts for metric in part.metrics)]
        of_one = set(metrics) - set(OF_TWO)  # for which two characters are asked
        assert {metric.name for metric in asked} == of_one
    elif group == "encoder":
        assert list(sweep.resolved[group]) == [name]
        assert [spec.name for spec in sweep.encoders] == ["clip", "dino", name]
    elif group == "attributes":
        assert sweep.resolved[group].keys() >= {"hair", "clothes", "position", "place"}
    else:
        assert sweep.resolved[group]["name" if group != "runtime" else "device"] in (name, "auto")


def test_the_study_is_its_parts_in_one_plan(tmp_path: Path) -> None:
    """37 tuning cells, naively 38,000 steps, share 8,000; a cell of several parts is one cell."""
    sweep = load_sweep([f"root={tmp_path}", "+sweep=study"])
    parts = {part.name: part for part in sweep.parts}
    assert list(parts) == ["lr_grid", "steps_grid", "inference_grid", "methods"]
    tuning = [cell for part in sweep.parts[:3] for cell in part.cells]
    assert len(tuning) == 37
    assert sum(cell.step for cell in tuning) == 38_000
    plan = plan_work(tuning, Store(tmp_path))
    assert plan.steps_needed == 8_000
    keys = {cell.key for part in sweep.parts for cell in part.cells}
    assert keys == {cell.key for cell in sweep.cells}
    assert len(keys) == len(sweep.cells)
    methods = load_sweep([f"root={tmp_path}", "+sweep=methods"])
    assert [c.key for c in parts["methods"].cells] == [c.key for c in methods.cells]
    assert set(parts["methods"].axes["method"]) == {
        "dreambooth", "lora", "dreambooth_lora", "gan", "diffusion",
    }  # fmt: skip
    assert parts["lr_grid"].axes.keys() == {"lr"}
    assert {cell.step for cell in parts["methods"].cells if cell.trajectory.base} == {1000}


def test_parts_add_to_the_sweep_and_are_typed_over(tmp_path: Path) -> None:
    words = ["+parts.a={lr: 1e-4, train_steps: 7}", "+parts.b={axes: {lr: [1e-3, 1e-4]}}"]
    sweep = sweep_of(tmp_path, *words, "train_steps=5")
    assert [(cell.values["lr"], cell.step) for cell in sweep.cells] == [(1e-4, 5), (1e-3, 5)]
    assert [len(part.cells) for part in sweep.parts] == [1, 2]
    assert dict(sweep.axes) == {"lr": (1e-4, 1e-3)}


def test_a_schedule_that_needs_the_horizon_is_not_merged(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "schedule=cosine", "+axes.train_steps=[4,8]")
    plan = plan_work(sweep.cells, Store(tmp_path))
    assert len(plan.trainings) == 2
    assert plan.steps_needed == 12


@pytest.mark.parametrize(
    ("overrides", "trajectories"),
    [
        (["+axes.lr=[1e-3,1e-4]", "+axes.seed=[0,1,2]"], 6),
        (["+axes.method=[lora,dreambooth_lora,dreambooth]"], 3),
        (["+axes.method.rank=[2,4,8]"], 3),
        (["+axes.method.base=[sd15,sdxl]"], 2),
        (["+axes.sampler=[base,ddim]", "+axes.inference_steps=[2,3]"], 1),
        (["+axes.sampler.guidance_scale=[1,3,5]"], 1),
        (["+axes.method.min_snr_gamma=[null,5]"], 2),
        (["+axes.schedule.warmup_steps=[0,10]"], 2),
        (["+axes.optimizer.weight_decay=[0,0.1]"], 2),
    ],
)
def test_any_setting_can_be_an_axis(
    overrides: list[str], trajectories: int, tmp_path: Path
) -> None:
    sweep = sweep_of(tmp_path, *overrides)
    assert len({cell.trajectory.key for cell in sweep.cells}) == trajectories
    assert len({cell.key for cell in sweep.cells}) == len(sweep.cells)
    for name in sweep.axes:
        assert len({cell.values[name] for cell in sweep.cells}) == len(sweep.axes[name])


def test_what_changes_no_result_changes_no_key(tmp_path: Path) -> None:
    one = sweep_of(tmp_path, "lr=1e-3")
    two = load_sweep(
        [*small(tmp_path / "elsewhere", "lr=0.001"), "name=other", "runtime.threads=3",
         "runtime.tracking=false", "question=why"]
    )  # fmt: skip
    assert [cell.key for cell in one.cells] == [cell.key for cell in two.cells]
    assert one.cells[0].key != sweep_of(tmp_path, "lr=1.1e-3").cells[0].key


def test_numbers_have_one_spelling() -> None:
    assert key_of({"a": 1}) == key_of({"a": 1.0}) == key_of({"a": 1e0})
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": True})
    assert list(differences({"a": {"b": 1}}, {"a": {"b": 2}})) == ["a.b: 1 is not 2"]
    assert [short_number(x) for x in (1e-4, 5e-5, 1.5e-4, 1.0)] == [
        "1e-04", "5e-05", "0.00015", "1e+00",
    ]  # fmt: skip


def test_a_key_of_plain_values_has_not_moved() -> None:
    assert key_of({"method": "lora", "lr": 1e-4, "steps": [1, 2], "none": None}) == "855b46d8727d"


def test_a_manifest_that_says_something_else_is_an_error(tmp_path: Path) -> None:
    sweep, store = sweep_of(tmp_path), Store(tmp_path)
    spec = sweep.cells[0].trajectory
    folder = store.open_trajectory(spec)
    assert store.open_trajectory(spec) == folder
    text = (folder / "spec.json").read_text()
    (folder / "spec.json").write_text(text.replace('"seed": 0', '"seed": 7'))
    with pytest.raises(StoreError, match="seed: 7 is not 0"):
        store.open_trajectory(spec)


def test_no_manifest_means_not_there(tmp_path: Path) -> None:
    sweep, store = sweep_of(tmp_path), Store(tmp_path)
    snapshot = SnapshotSpec(sweep.cells[0].trajectory, 400)
    store.snapshot(snapshot).mkdir(parents=True)
    (store.snapshot(snapshot) / "pytorch_lora_weights.safetensors").write_bytes(b"half")
    assert not store.has_snapshot(snapshot)
    write_json(store.snapshot(snapshot) / "snapshot.json", {"spec": {"step": 400}})
    store.open_trajectory(sweep.cells[0].trajectory)
    assert store.has_snapshot(snapshot)


def test_the_plan_names_what_it_costs(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "train_steps=100", "+axes.lr=[1e-3,1e-4]")
    plan, store = plan_work(sweep.cells, Store(tmp_path)), Store(tmp_path)
    numbers = cost.summary(plan, store, dict(sweep.bases))
    assert numbers["steps_needed"] == 200
    assert numbers["images"] == 16  # two cells, the base with both prompts: four images each
    assert numbers["guessed_for"] == "two CPU cores"
    cost.Speeds(store).remember_step(sweep.cells[0].trajectory, 2.0)
    cost.Speeds(store).remember_call(sweep.cells[0].images, 0.5)
    again = cost.summary(plan, store, dict(sweep.bases))
    assert again["guessed_for"] is None
    # two rates share each of 100 passes
    assert again["seconds"] == pytest.approx(100 * 2.0 + 16 * 2 * 2 * 0.5)


def test_a_guess_grows_with_the_batch_and_the_picture(tmp_path: Path) -> None:
    def seconds(*words: str) -> float:
        sweep = sweep_of(tmp_path, "train_steps=1000", *words)
        speeds = cost.Speeds(Store(tmp_path))
        return speeds.step(sweep.cells[0].trajectory)

    assert seconds("batch_size=8") == pytest.approx(8 * seconds())
    assert seconds("resolution=128") == pytest.approx(4 * seconds())
    assert seconds("resolution=1024") > 10 * seconds()
    # A further chunk of a prompt: 12.6 % of the embedded U-Net's multiply-adds.
    chunks = "models.bases.sdxl.text_chunks=3"
    assert seconds(chunks) == pytest.approx((1 + 2 * 0.126) * seconds())
    assert 1.02 < seconds(chunks, "resolution=1024") / seconds("resolution=1024") < 1.03


def test_speeds_and_peaks_of_other_chunks_are_not_taken(tmp_path: Path) -> None:
    plain, chunked = (
        sweep_of(tmp_path, f"models.bases.sdxl.text_chunks={n}").cells[0] for n in (1, 2)
    )
    speeds = cost.Speeds(Store(tmp_path))
    before = speeds.step(chunked.trajectory), speeds.call(chunked.images)
    speeds.remember_step(plain.trajectory, 2.0)
    speeds.remember_call(plain.images, 0.5)
    assert (speeds.step(chunked.trajectory), speeds.call(chunked.images)) == before
    assert (speeds.step(plain.trajectory), speeds.call(plain.images)) == (2.0, 0.5)
    assert memory.name_of(memory.Work(plain.trajectory), "cpu") != memory.name_of(
        memory.Work(chunked.trajectory), "cpu"
    )


def test_planning_needs_no_torch_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from charsweep.__main__ import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'diffusers', 'transformers', 'mlflow'} & sys.modules.keys();"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "+sweep=lr_grid", f"root={tmp_path}", "action=plan"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "7,000 to train" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_setting_made_of_an_axis_follows_it(tmp_path: Path) -> None:
    words = ["sampler.negative_prompt=scale ${sampler.guidance_scale}",
             "+axes.sampler.guidance_scale=[2,3]", "+axes.method.rank=[1,2]"]  # fmt: skip
    cells = sweep_of(tmp_path, *words).cells
    assert [cell.images.negative_prompt for cell in cells] == 2 * ["scale 2"] + 2 * ["scale 3"]
    assert [cell.trajectory.method.settings["rank"] for cell in cells] == [1, 2, 1, 2]


def test_lists_are_values_of_an_axis(tmp_path: Path) -> None:
    """As one text each, which a study and a table can hold and which may be typed again."""
    words = ["+axes.method.target_modules=[[to_q,to_k],[to_out.0]]",
             "+axes.optimizer.betas=[[0.9,0.999],[0.5,1e-1]]"]  # fmt: skip
    sweep = sweep_of(tmp_path, *words)
    modules, betas = ("[to_q,to_k]", "[to_out.0]"), ("[0.9,0.999]", "[0.5,0.1]")
    assert dict(sweep.axes) == {"method.target_modules": modules, "optimizer.betas": betas}
    taught = [cell.trajectory for cell in sweep.cells]
    assert [tuple(one.method.settings["target_modules"]) for one in taught] == [
        ("to_q", "to_k"), ("to_q", "to_k"), ("to_out.0",), ("to_out.0",)
    ]  # fmt: skip
    assert [list(one.optimizer.settings["betas"]) for one in taught[:2]] == [
        [0.9, 0.999], [0.5, 0.1]
    ]  # fmt: skip
    assert sweep.cells[0].values["method.target_modules"] == "[to_q,to_k]"
    again = sweep_of(tmp_path, "+axes.method.target_modules=['[to_q,to_k]','[to_out.0]']", words[1])
    assert [cell.key for cell in again.cells] == [cell.key for cell in sweep.cells]


def test_a_list_is_no_value_of_an_axis_of_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"axes.method.rank=.* should list numbers or words"):
        sweep_of(tmp_path, "+axes.method.rank=[4,[8]]")
