"""Training steps on a Jetson TX2 under PyTorch 1.6: the GPU model, calibrated and not, against measurements.

`--data` is the folder of the measurements: latency.csv, memory.csv, layers.csv.gz
(ICIdsl/performance_modelling@c48cf66d, arXiv:2108.05580). Every network in it that can be traced is used; others are
skipped with a line that says so.
`--tables` names what to print: latency (a) over pruning levels, (b) of networks left out and (c) of speed-ups, memory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness import arguments, publish
from tx2_data import measured_steps
from tx2_latency import by_level, left_out, speedups
from tx2_memory import MIB, replayed, unfitted, used

from hwmodels.device import device

FILES = ("latency.csv", "memory.csv", "layers.csv.gz")


def main() -> None:
    options = arguments(__doc__, data="", tables="abcm", seed=0)
    missing = [name for name in FILES if not options.data or not (Path(options.data) / name).is_file()]
    if missing:
        print(f"no {missing[0]} in {options.data!r}; give with --data the folder that has it", file=sys.stderr)
        sys.exit(2)
    tx2: Any = device("jetson-tx2")
    steps, graphs = measured_steps(options.data)
    rows: list[dict[str, Any]] = []

    def table(letter: str, title: str, found: list[dict[str, Any]]) -> None:
        rows.extend({"table": letter, **row} for row in found)
        if options.json != "-":
            publish(f"({letter}) {title}", found, None)

    if "a" in options.tables:
        table("a", "latency, fitted to levels 0, 30, 50, 70 and 90 of a network, error in % on its others",
              by_level(tx2, steps))  # fmt: skip
    if "b" in options.tables:
        table("b", "latency of a network left out, by points of it in the fit, error in %",
              left_out(tx2, steps, options.seed))  # fmt: skip
    if "c" in options.tables:
        table("c", "speed-up by pruning ResNet-50, fitted to unpruned networks", speedups(tx2, steps))
    if "m" in options.tables:
        memory = replayed(options.data, tx2, graphs)
        table("m", "memory, nothing fitted", unfitted(memory, tx2.memory_bytes / MIB))
        table("m used", "memory used as the system counts, fitted as (a), error in %", used(memory, graphs))
    if options.json:
        publish("training steps on a Jetson TX2", rows, options.json)


if __name__ == "__main__":
    main()
