"""Device models against inference and training that others measured on boards: as they are, and fitted to few points.

    python benchmarks/boards.py --data DIR [--seeds 20] [--sizes 10,50,100] [--only TEXT]

`--data` is the folder of the measurements; `boards_sets`, `boards_quti` and `boards_phone` name its files, and a table
that is not there is left out. Graphs of inference are deployed ones (`simulator.rewriting.deploying`).
`boards_protocol` says which methods are compared and how; `--sizes` are
the numbers of networks to fit to, `--only` keeps the data sets whose name has this text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from boards_phone import FILE as PHONES
from boards_phone import phones
from boards_protocol import compare
from boards_quti import FILE as QUTIBENCH
from boards_quti import dpu, tx2
from boards_sets import DPU, FILES, boards, read
from harness import arguments, publish


def main() -> None:
    options = arguments(__doc__, data="", seeds=20, sizes="10,50,100", only="")
    if not options.data:
        print("no --data; give the folder of the measurements (see this script's head)")
        return
    folder, sizes = Path(options.data), [int(size) for size in options.sizes.split(",")]
    for name in (*FILES, QUTIBENCH, PHONES):
        if not (folder / name).is_file():
            print(f"no file {str(folder / name)!r}; its rows are left out")
    rows: list[dict[str, Any]] = []
    made = dict(boards(folder))
    quti = read(folder, QUTIBENCH)
    for name, make in [*made.items(), *(tx2(quti).items() if quti else ())]:
        if options.only in name:
            rows += compare(make(), sizes, options.seeds)
    if rows:
        publish("inference, predicted from few networks", rows, options.json)
    if quti and options.only in DPU:
        found = list(dpu(quti, made[DPU]() if DPU in made else None))
        publish("int8 inference on a ZCU102's DPU (QuTiBench), ours / measured", found, None)
    if (table := read(folder, PHONES)) and options.only in "phones":
        publish("training steps on phones, each batch size predicted from the others", list(phones(table)), None)


if __name__ == "__main__":
    main()
