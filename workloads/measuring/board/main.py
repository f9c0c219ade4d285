# ruff: noqa: UP006, UP035, UP045
"""Measures training ops and steps on this board, into a file that trainwatt reads.

    python3 bench.py -o board.csv --ops --steps resnet18,mobilenetv2 --batches 1,8 --device "Jetson Nano" [--cuda]

Needs Python 3.6 and PyTorch 1.4 or newer. Run again with the same file, it goes on where it was. With --power, watts
are logged beside the file; `trainwatt power board.power.csv --join board.csv -o joined.csv` makes energies of both.
"""

import argparse
import contextlib
import csv
import gc
import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch

from workloads.measuring.board.calls import Unavailable, gradient_calls
from workloads.measuring.board.cases import op_set
from workloads.measuring.board.host import this_place
from workloads.measuring.board.memory import fits_not
from workloads.measuring.board.op_timing import time_op
from workloads.measuring.board.pace import SLOWED
from workloads.measuring.board.power import Meter, PowerLog, open_meter
from workloads.measuring.board.records import Records, pairs
from workloads.measuring.board.step_timing import time_step
from workloads.measuring.board.telemetry import Telemetry, Watch

ROW_SOURCE = "trainwatt bench script"
IDLE_WINDOW_S = 5.0
LONGEST_LEFT_S = 1e6
PAST_DEADLINE_S = 600.0
"""A step that is not done so long after the deadline is ended."""

Row = Dict[str, Any]


class Task(NamedTuple):
    """One thing to measure: the columns that name it, and what measures it and returns rows without those."""

    named: Row
    measure: Callable[[], List[Row]]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return its exit code."""
    told = _parser().parse_args(arguments)
    torch.set_num_threads(told.threads)
    if told.one_step:
        print(json.dumps(_one_step(json.loads(told.one_step))))
        return 0
    try:
        if not (told.output and (told.ops or told.steps)):
            raise ValueError("nothing to do; give -o FILE and --ops, --steps NETWORKS or both")
        if told.cuda and not torch.cuda.is_available():
            raise ValueError("no CUDA in this PyTorch; leave out --cuda")
        print(_measure_all(told))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", metavar="FILE", help="CSV to add rows to")
    parser.add_argument("--ops", action="store_true", help="single ops: a designed set of kinds and sizes")
    parser.add_argument("--kinds", default="", metavar="KIND,KIND", help="of the ops, these kinds only")
    parser.add_argument("--steps", default="", metavar="NETWORKS", help="whole training steps, such as resnet18")
    parser.add_argument("--batches", default="1,8", metavar="N,N", help="of the steps (%(default)s)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the processor (%(default)s)")
    parser.add_argument("--cuda", action="store_true", help="on the graphics processor")
    parser.add_argument("--device", default="", metavar="NAME", help="what this board is called")
    parser.add_argument("--power-mode", default="", metavar="MODE", help="that it is in (what nvpmodel says)")
    parser.add_argument("--power", default="none", metavar="METER", help="log power meanwhile: auto, or a meter's name")
    parser.add_argument("--time-limit", type=float, default=float("inf"), metavar="S", help="begin nothing after it")
    parser.add_argument("--one-step", default="", help=argparse.SUPPRESS)
    return parser


def _measure_all(told: argparse.Namespace) -> str:
    """Measure what the file has no rows of, and return what was done in words."""
    telemetry = Telemetry()
    device = "cuda" if told.cuda else "cpu"
    records = Records(told.output)
    meter = open_meter(told.power)
    deadline_s = time.monotonic() + told.time_limit
    window_s = meter.window_s if meter else 0.0
    more = {"gradients": gradient_calls(), "on": device}
    if told.cuda:
        more.update(cuda=str(torch.version.cuda), cudnn=str(torch.backends.cudnn.version()))
    place = this_place(telemetry, told.threads, told.device, told.power_mode, more)
    where = {"device": place.device, "power_mode": place.power_mode, "source": ROW_SOURCE}
    where.update(clocks=pairs(place.clocks), software=pairs(place.software))
    tasks = _ops(told, device, deadline_s, window_s) if told.ops else []
    tasks += _steps(told, device, deadline_s, window_s)
    counts = {"measured": 0, "there already": 0, "too large": 0, "not in this PyTorch": 0, "left": 0, "failed": 0}
    with _logging(meter, told.output, records, where) as save:
        for number, task in enumerate(tasks):
            named = dict(where, **task.named)
            if records.setup(named) in records.known:
                counts["there already"] += 1
                continue
            if time.monotonic() >= deadline_s:
                counts["left"] += 1
                continue
            outcome, rows = _measure(task, telemetry)
            counts[outcome] += 1
            records.add([dict(named, **row) for row in rows])
            save()
            if sys.stderr.isatty():
                print(f"\r{number + 1} of {len(tasks)} ", end="", file=sys.stderr, flush=True)
    return f"{told.output}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _measure(task: Task, telemetry: Telemetry) -> Tuple[str, List[Row]]:
    """Return what became of the task, and its rows, with those of what was observed."""
    try:
        with Watch(telemetry) as watch:
            rows = task.measure()
    except Unavailable:
        return "not in this PyTorch", []
    except (RuntimeError, MemoryError, TypeError) as error:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if fits_not(error):
            return "too large", [{"metric": "out_of_memory", "value": 1.0}]
        first = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"\n{task.named['what']} {task.named['parameters']}: {first}", file=sys.stderr)
        return "failed", []
    return "measured", rows + [reading._asdict() for reading in watch.readings]


def _ops(told: argparse.Namespace, device: str, deadline_s: float, window_s: float) -> List[Task]:
    tasks = []
    for case in op_set():
        if told.kinds and case.kind not in told.kinds.split(","):
            continue

        def measure(case: Any = case) -> List[Row]:
            timing = time_op(case.kind, case.parameters, case.batch, told.repeats, deadline_s, device, window_s)
            found = {"metric": "latency", "value": timing.median_s, "spread": timing.spread_s}
            latency = dict(found, repeats=len(timing.seconds), start_s=timing.start_s, end_s=timing.end_s)
            return [latency, *_slowed(timing.slowed)]

        named = {"kind": "op", "what": case.kind, "parameters": pairs(case.parameters)}
        tasks.append(Task(dict(named, batch=case.batch, phase=case.phase), measure))
    return tasks


def _steps(told: argparse.Namespace, device: str, deadline_s: float, window_s: float) -> List[Task]:
    if not all(size.isdigit() and int(size) for size in told.batches.split(",")):
        raise ValueError(f"batches {told.batches!r}; write for example 1,8,32")
    tasks = []
    for what in filter(None, told.steps.split(",")):
        for batch in map(int, told.batches.split(",")):
            asked = {"what": what, "batch": batch, "repeats": told.repeats, "device": device, "window_s": window_s}

            def measure(asked: Row = asked) -> List[Row]:
                left_s = min(deadline_s - time.monotonic(), LONGEST_LEFT_S)
                return _in_own_process(dict(asked, left_s=left_s), told.threads)

            named = {"kind": "step", "what": what, "parameters": "optimizer=sgd{momentum=0.9};precision=fp32"}
            tasks.append(Task(dict(named, batch=batch, phase=""), measure))
    return tasks


def _in_own_process(asked: Row, threads: int) -> List[Row]:
    """Measure a step in a process of its own: one that takes all memory is the one that the system ends."""
    command = [sys.executable, os.path.abspath(__file__), "--threads", str(threads), "--one-step", json.dumps(asked)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=asked["left_s"] + PAST_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError("takes far too long") from None
    if done.returncode == -9:
        raise MemoryError("the system killed it")
    if done.returncode:
        raise RuntimeError(f"ended with code {done.returncode}")
    answer = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    if "error" in answer:
        raise (MemoryError if answer["memory"] else RuntimeError)(answer["error"])
    rows = [dict(held, phase=phase, metric="latency") for phase, held in answer["latency"].items()]
    rows += _slowed(answer["slowed"])
    rows += [{"kind": "memory", "metric": metric, "value": value} for metric, value in answer["memory"].items()]
    return rows


def _slowed(times: float) -> List[Row]:
    return [{"metric": "slowed", "value": times}] if times > SLOWED else []


def _one_step(asked: Mapping[str, Any]) -> Dict[str, Any]:
    """Measure in this process; return what came out, or the error."""
    with contextlib.suppress(OSError, IOError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # of all processes, this is the one to end
    try:
        return time_step(**asked)
    except (RuntimeError, MemoryError, ValueError, TypeError) as error:
        return {"error": (str(error).splitlines() or [type(error).__name__])[0], "memory": fits_not(error)}


@contextlib.contextmanager
def _logging(
    meter: Optional[Meter], output: str, records: Records, where: Mapping[str, Any]
) -> Iterator[Callable[[], None]]:
    """Log power while the block runs, idle first; yield what saves the samples so far."""
    if meter is None:
        yield lambda: None
        return
    path = os.path.splitext(output)[0] + ".power.csv"
    with PowerLog(meter) as log:
        print(f"power by {meter.name} into {path}: idle for {IDLE_WINDOW_S:g} s", file=sys.stderr)
        start_s = time.time()
        time.sleep(IDLE_WINDOW_S)
        if not log.samples:
            raise ValueError(f"no sample of power by {meter.name}; use --power none")
        rails = sorted(log.samples[0][1])
        watts = [sum(held.values()) for _, held in log.samples]
        _head(path, rails)
        named = {"kind": "power", "what": "idle", "metric": "idle_power", "value": sum(watts) / len(watts)}
        records.add([dict(where, start_s=start_s, end_s=time.time(), **named)])
        saved = [0]

        def save() -> None:
            count = len(log.samples)
            with open(path, "a") as file:
                for time_s, held in log.samples[saved[0] : count]:
                    file.write(",".join(map(repr, [time_s, *(held[rail] for rail in rails)])) + "\n")
            saved[0] = count

        try:
            yield save
        finally:
            log.wait_past(time.time())
            save()


def _head(path: str, rails: List[str]) -> None:
    """Begin the log at `path`, or check that it is of the same rails."""
    with open(path, "a+", newline="") as file:
        file.seek(0)
        held = file.read()
        if not held:
            file.write("# trainwatt power 1\n")
            csv.writer(file, lineterminator="\n").writerow(["time_s", *rails])
        elif held.splitlines()[1:2] != [",".join(["time_s", *rails])]:
            raise ValueError(f"{path!r} is of another meter; move it away")


if __name__ == "__main__":
    sys.exit(main())
