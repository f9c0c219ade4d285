"""Real training runs: the same batches, nothing disturbed, and what comes out of the command."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import simulator.techniques
import workloads.training.loop
from analysis.cli import cli
from analysis.running import rounded
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import Technique, parse
from simulator.techniques.smd import StochasticMiniBatchDropping
from workloads.techniques.smd import DroppingStep
from workloads.tracing.step import Step
from workloads.training.datasets import Dataset, dataset_from
from workloads.training.evaluation import in_eval_mode
from workloads.training.feed import shuffled_batches
from workloads.training.loop import Choice, Training, train
from workloads.training.trial import Batch, Run, Score, trimmed_mean
from workloads.workload import Workload

NETWORK = "lenet5"
PLAIN = Choice()


@dataclass(frozen=True)
class Watch(Technique):
    """Changes nothing; its twin notes what each step is given. `share` is decided by the data: a half."""

    name: ClassVar[str] = "watch"

    share: float = 1.0

    def rewrite(self, graph: Graph) -> Graph:
        return replace(graph, ops=tuple(replace(op, runs=op.runs * self.share) for op in graph.ops))


SEEN: list[torch.Tensor] = []


@dataclass(frozen=True)
class WatchedStep(Step):
    def backward(self, inputs: Any, targets: Any, mark: Any = lambda phase: None) -> torch.Tensor | None:
        SEEN.append(targets)
        torch.rand(7)  # draws of a technique's own
        return super().backward(inputs, targets, mark)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The technique `watch`, in both its forms."""
    twin = ModuleType("workloads.techniques.watch")
    twin.step = lambda technique, step: WatchedStep(step.workload, step.optimizer)  # type: ignore[attr-defined]
    twin.measured = lambda technique, step: Watch(share=0.5)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, twin.__name__, twin)
    known = {**simulator.techniques.techniques(), "watch": Watch}
    monkeypatch.setattr(simulator.techniques, "techniques", lambda: known)
    workloads.techniques._module.cache_clear()
    SEEN.clear()
    yield
    workloads.techniques._module.cache_clear()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return dataset_from("digits", (1, 28, 28))


def training(dataset: Dataset, **options: Any) -> Training:
    return Training(NETWORK, dataset, **{"batch": 8, "steps": 6, **options})


# -- training ----------------------------------------------------------------------------------------------------------


def test_plain_training_on_the_digits_learns_them(digits: Dataset) -> None:
    (run,) = train(training(digits, steps=150, batch=32, optimizer="sgd{momentum=0.9,lr=0.05}"), [PLAIN]).runs
    assert run.before.accuracy < 0.25
    assert run.after.accuracy > 0.85
    assert run.final_loss is not None
    assert run.final_loss < run.losses[0]


def test_a_technique_that_changes_nothing_learns_exactly_what_plain_training_learns(
    watch: None, digits: Dataset
) -> None:
    plain, treated = train(training(digits), [PLAIN, Choice((Watch(),))]).runs
    assert treated.losses == plain.losses
    assert (treated.before, treated.after) == (plain.before, plain.after)


def test_plain_training_is_the_same_beside_a_technique_and_alone(digits: Dataset) -> None:
    smd = Choice(parse("smd{p=0.5}"))
    assert train(training(digits), [PLAIN, smd]).runs[0].losses == train(training(digits), [PLAIN]).runs[0].losses


def test_all_see_the_same_mini_batches_and_a_dropped_one_is_gone(watch: None, digits: Dataset) -> None:
    choices = [Choice((Watch(),)), Choice(parse("watch,smd{p=0.5}"))]
    _, dropping = train(training(digits, steps=12), choices, seed=1).runs
    first, second = [], []
    shown = iter(SEEN)
    for batch in dropping.batches:  # in turns: first lane, then second, which is not run where it is dropped
        first.append(next(shown))
        if batch.executed:
            second.append(next(shown))
            assert torch.equal(first[-1], second[-1])
    assert 0 < len(second) < len(first) == 12
    assert next(shown, None) is None


def test_the_callers_random_numbers_stay_his_own(digits: Dataset) -> None:
    before = torch.get_rng_state()
    train(training(digits, steps=1), [PLAIN])
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_is_another_run(digits: Dataset) -> None:
    losses = [train(training(digits, steps=2), [PLAIN], seed=seed).runs[0].losses for seed in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


def test_a_pass_shows_each_sample_once_in_another_order_each_time() -> None:
    batches = shuffled_batches(10, 3, seed=0)
    first, second = (torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(2))
    assert len(set(first)) == len(set(second)) == 9
    assert first != second


def test_a_stretched_schedule_presents_more_mini_batches(digits: Dataset) -> None:
    plain, stretched = train(training(digits, steps=6), [PLAIN, Choice(parse("smd{p=0.5}"), stretch=1.5)]).runs
    assert (len(plain.batches), len(stretched.batches)) == (6, 9)


def test_evaluation_gives_every_module_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), nn.ReLU())
    model.train()
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    with in_eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


def test_what_a_technique_predicts_with_is_what_it_is_judged_by(digits: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def right(inputs: torch.Tensor) -> torch.Tensor:
        rows = [int((digits.test_inputs == x).all(dim=(1, 2, 3)).nonzero()[0, 0]) for x in inputs]
        return nn.functional.one_hot(digits.test_targets[rows], 10) * 100.0

    workload = Workload(
        model, lambda n: torch.zeros(n, 1, 28, 28), lambda n: None, nn.functional.cross_entropy, predict=right
    )
    (run,) = train(replace(training(digits, steps=1), model=workload), [PLAIN]).runs
    assert run.after.accuracy == 1.0


def test_an_interrupt_keeps_the_steps_that_were_done(digits: Dataset) -> None:
    def progress(share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    trial = train(training(digits, steps=6), [PLAIN, Choice(parse("smd{p=0.5}"))], progress=progress)
    assert trial.interrupted
    assert [len(run.batches) for run in trial.runs] == [3, 3]


def test_an_interrupt_before_anything_was_done_is_passed_on(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, inputs: Any, targets: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Step, "run", step)
    with pytest.raises(KeyboardInterrupt):
        train(training(digits), [PLAIN])


# -- dropping mini-batches ---------------------------------------------------------------------------------------------


def dropping(p: float, inside: Step | None = None, **options: Any) -> tuple[Step, nn.Linear]:
    model = nn.Linear(1, 1)
    workload = Workload(model, lambda n: None, lambda n: None, lambda outputs, targets: outputs.sum())
    step = Step(workload, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    from workloads.techniques.smd import step as twin

    return twin(StochasticMiniBatchDropping(p, **options), step), model


def test_the_dropped_share_is_p() -> None:
    step, _ = dropping(0.3)
    dropped = sum(step.run(torch.ones(1, 1), None) is None for _ in range(2000))
    assert abs(dropped / 2000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)  # four standard deviations


def test_a_dropped_mini_batch_changes_nothing_unless_the_optimizer_steps_on() -> None:
    for options, moves in (({}, False), ({"dropped_step": True}, True)):
        step, model = dropping(0.5, **options)
        while step.run(torch.ones(1, 1), None) is None:
            pass
        while True:
            before = model.weight.item()
            if step.run(torch.ones(1, 1), None) is None:
                break
        assert (model.weight.item() != before) is moves  # momentum goes on


def test_dropping_twice_is_dropping_once_with_what_is_left_of_both() -> None:
    step, _ = dropping(0.5)
    from workloads.techniques.smd import step as twin

    assert twin(StochasticMiniBatchDropping(0.5), step).p == 0.75  # type: ignore[attr-defined]


def test_dropping_keeps_what_another_technique_made_of_the_step() -> None:
    from workloads.techniques.smd import step as twin

    _, model = dropping(0.5)
    SEEN.clear()
    workload = Workload(model, lambda n: None, lambda n: None, lambda outputs, targets: outputs.sum())
    step = twin(StochasticMiniBatchDropping(0.0), WatchedStep(workload, torch.optim.SGD(model.parameters(), lr=0.1)))
    assert isinstance(step, DroppingStep)
    step.run(torch.ones(1, 1), torch.zeros(1))
    assert len(SEEN) == 1


# -- what follows from the batches -------------------------------------------------------------------------------------


def of(*batches: Batch) -> Run:
    return Run((), Score(2.0, 0.1), Score(1.0, 0.5), batches)


def test_means_hold_for_a_presented_mini_batch_dropped_ones_included() -> None:
    # Two of four run: half of (the mean of 100 and 200 MACs), half of 0; likewise 3 s and 1 s.
    run = of(Batch(1.0, 3.0, 100), Batch(None, 1.0, 0), Batch(0.5, None, 200), Batch(None, None, None))
    assert run.executed == 2
    assert run.batch_macs == 75
    assert run.batch_seconds == 2.0
    assert run.final_loss == 0.5


def test_a_run_without_any_step_knows_no_means() -> None:
    run = of(Batch(None, 1.0, None))
    assert (run.batch_macs, run.final_loss, run.step_seconds) == (0, None, [])
    assert of(Batch(1.0, None, 5)).batch_seconds is None


def test_a_loss_that_is_not_finite_is_where_training_diverged() -> None:
    assert of(Batch(1.0, 1.0, None), Batch(None, 0.0, None), Batch(math.nan, 1.0, None)).diverged_at == 1
    assert of(Batch(1.0, 1.0, None)).diverged_at is None


def test_a_trimmed_mean_leaves_a_twentieth_out_at_either_end() -> None:
    assert trimmed_mean([1.0] * 19 + [1000.0]) == 1.0
    assert trimmed_mean([1.0, 2.0]) == 1.5


# -- the command -------------------------------------------------------------------------------------------------------


def command(*args: str) -> Result:
    fixed = ["run", NETWORK, "--steps", "8", "--batch", "8"]
    return CliRunner().invoke(cli, [*fixed, *args], prog_name="trainwatt")


def refused(*args: str) -> str:
    result = command(*args)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert not result.stdout
    return line


def test_the_command_compares_plain_training_with_a_technique() -> None:
    result = command("--apply", "smd{p=0.25}", "--repeats", "2")
    assert result.exit_code == 0, result.output
    for text in (
        "plain",
        "smd{p=0.25",
        "test accuracy",
        "MACs of a mini-batch, counted",
        "±",
        "peak memory",
        "one thread",
    ):
        assert text in result.stdout
    assert not result.stderr


def test_counted_macs_and_measured_peak_of_plain_training_are_those_predicted(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert command("--json", str(path)).exit_code == 0
    document = json.loads(path.read_text())
    (column,) = document["columns"]
    assert column["applied"] is None
    assert column["batch_macs"] == column["predicted_macs"]
    (run,) = column["runs"]
    assert len(run["losses"]) == len(run["seconds"]) == run["executed"] == 8
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert column["measured_peak_bytes"] == pytest.approx(column["predicted_peak_bytes"], rel=0.02)


def test_json_on_standard_output_is_the_document_alone() -> None:
    document = json.loads(command("--apply", "smd", "--json", "-").stdout)
    assert [column["applied"] is None for column in document["columns"]] == [True, False]


def test_measured_parameters_are_shown_the_way_apply_takes_them(watch: None) -> None:
    result = command("--apply", "watch")
    assert 'measured parameters: --apply "watch{share=0.5}"' in result.stdout, result.output
    assert "predicted, as measured" in result.stdout


def test_a_technique_runs_alone_on_demand() -> None:
    (head,) = [line for line in command("--apply", "smd", "--no-baseline").stdout.splitlines() if "technique" in line][
        1:
    ]
    assert head.split() == ["technique"]


def test_an_interrupted_run_is_reported_and_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original, calls = Step.run, 0

    def step(self: Step, inputs: Any, targets: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 10:  # two for the peak of each, then the third step
            raise KeyboardInterrupt
        return original(self, inputs, targets)

    monkeypatch.setattr(Step, "run", step)
    result = command("--apply", "smd{p=0.0}", "--json", str(tmp_path / "run.json"))
    assert result.exit_code == 130
    assert "interrupted: this is what was reached" in result.stdout
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["interrupted"] is True
    assert [column["runs"][0]["presented"] for column in document["columns"]] == [3, 2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dataset", "digit"], "no dataset 'digit'; did you mean 'digits'?"),
        (["--no-baseline"], "no baseline and no techniques"),
        (["--lr", "0"], "lr 0; a learning rate is a number above 0"),
        (["--lr", "nan"], "lr nan"),
        (["--lr", "0.1", "--optimizer", "sgd{lr=0.1}"], "say the learning rate once"),
        (["--optimizer", "sgdd"], "no optimizer 'sgdd'"),
        (["--apply", "smdd"], "no technique 'smdd'"),
        (["--batch", "2000"], "batch 2000; dataset 'digits' has 1437 training samples"),
        (["--dataset", "nowhere:data"], "cannot import 'nowhere'"),
        (["--json", "/nowhere/run.json"], "there is no folder"),
        (["--input-size", "3"], "cannot trace lenet5"),
    ],
)
def test_bad_input_is_answered_in_one_line(args: list[str], message: str) -> None:
    assert message in refused(*args)


def test_networks_that_take_no_images_or_classify_pixels_do_not_fit_the_digits() -> None:
    for network, message in (("lstm", "digits are images"), ("nowhere.graph", "cannot train the stored graph")):
        result = CliRunner().invoke(cli, ["run", network], prog_name="trainwatt")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert message in result.stderr


# -- datasets ----------------------------------------------------------------------------------------------------------


def test_the_digits_are_split_alike_each_time_with_all_classes_in_both_parts(digits: Dataset) -> None:
    assert (len(digits.train_inputs), len(digits.test_inputs)) == (1437, 360)
    assert torch.equal(digits.test_targets, dataset_from("digits", (1, 28, 28)).test_targets)
    counts = torch.bincount(digits.test_targets, minlength=10)
    assert int(counts.min()) >= 34
    assert digits.train_inputs.mean().abs() < 0.1


def test_the_digits_are_repeated_in_every_channel() -> None:
    data = dataset_from("digits", (3, 16, 12))
    assert data.input_shape == (3, 16, 12)
    assert torch.equal(data.test_inputs[:, 0], data.test_inputs[:, 2])


DATASETS = """
import numpy as np
rng = np.random.default_rng(0)
x, y = rng.normal(size=(24, 1, 28, 28)), rng.integers(0, 3, 24)
def good(): return x, y, x[:9], y[:9]
def nan(): return np.where(x > 2.5, np.nan, x), y, x, y
def torn(): return x, y[:20], x, y
def three(): return x, y, x
def none(): return None
def empty(): return x[:0], y[:0], x, y
def halves(): return x, y + 0.5, x, y
def below(): return x, y - 1, x, y
def ragged(): return [[1], [1, 2]], y, x, y
def words(): return np.array(["a"] * 24), y, x, y
def other(): return x, y, x[..., :20], y
def pixels(): return x, np.zeros((24, 28, 28), int), x, np.zeros((24, 28, 28), int)
def breaks(): raise ValueError("the disk is full\\nreally")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "own_datasets.py").write_text(DATASETS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_datasets"
    sys.modules.pop("own_datasets", None)


def test_a_dataset_of_ones_own_sets_shape_and_classes(module: str) -> None:
    result = command("--dataset", f"{module}:good", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["dataset"]["classes"] == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "training inputs that are not finite"),
        ("torn", "training inputs 24x1x28x28 and targets 20"),
        ("three", "returned a tuple of 3"),
        ("none", "returned a NoneType"),
        ("empty", "training inputs 0x1x28x28"),
        ("halves", "no whole numbers"),
        ("below", "training targets -1 to 1"),
        ("ragged", "holds no array of numbers"),
        ("words", "holds no array of numbers"),
        ("other", "samples have one shape"),
        ("pixels", "needs logits of 1 classes for each"),
        ("breaks", "the disk is full"),
        ("goood", "did you mean 'good'"),
    ],
)
def test_a_dataset_that_is_none_is_refused_in_one_line(module: str, name: str, message: str) -> None:
    assert message in refused("--dataset", f"{module}:{name}")


def test_a_dataset_of_ones_own_keeps_its_size(module: str) -> None:
    assert "its samples keep their own shape" in refused("--dataset", f"{module}:good", "--input-size", "32")


def test_a_dataset_is_checked_however_it_is_made() -> None:
    x, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TrainwattError, match="classes count from 0 to 0"):
        Dataset("mine", x, y + 1, x, y, classes=1)
    with pytest.raises(TrainwattError, match=r"targets of torch\.float32"):
        Dataset("mine", x, y.float(), x, y, classes=1)


def test_the_documented_fields_are_the_fields_of_the_json_document() -> None:
    text = (Path(__file__).parents[1] / "docs" / "running.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## JSON")[2].partition("\n## ")[0].splitlines() if line.startswith("| `")]
    documented = {name.strip("`") for row in rows for name in row.split("|")[1].strip().split(", ")}
    (column,) = json.loads(command("--json", "-").stdout)["columns"]
    assert documented == set(column)
    (fields,) = [row for row in rows if row.startswith("| `runs`")]
    (run,) = column["runs"]
    assert {name for name in run if name not in ("seed", "measured", "batch_macs", "batch_s")} == {
        name for name in re.findall(r"`(\w+)`", fields) if name not in ("runs", "null")
    }


def test_only_what_the_data_decided_is_rounded() -> None:
    assert rounded(Watch(share=1 / 3), Watch()) == Watch(share=0.3333)
    assert rounded(Watch(share=1 / 3), Watch(share=1 / 3)) == Watch(share=1 / 3)
