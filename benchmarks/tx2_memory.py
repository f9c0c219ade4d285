"""Memory of training steps on a Jetson TX2 under PyTorch 1.6: replayed allocator against measured peaks.

`--data` is the folder of the measurements (memory.csv). Errors are (replayed - measured) / measured, of steps that went
well; the boundary is the largest batch size of the table that fits. Gradients are dropped between steps;
`kept_error_%` is with gradients that persist, as `zero_grad` of PyTorch 1.6 leaves them: the measured peaks say that
they were not held.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import arguments, publish
from tx2_steps import measured, step

from hwmodels.device import device

MIB = 2**20


def main() -> None:
    options = arguments(__doc__, data="tx2")
    tx2: Any = device("jetson-tx2")
    table = measured(options.data, "memory.csv", ("torch_max_alloc_mib", "torch_max_reserved_mib"))
    rows, errors = [], []
    for network, sizes in table.items():
        graph = step(network)
        fitting, right = [], 0
        for batch, (ok, (allocated, reserved)) in sizes.items():
            found = tx2.reserved(graph.rebatch(batch))
            fits = found.reserved_bytes <= tx2.memory_bytes
            fitting += [batch] * fits
            right += ok == fits
            if ok:
                kept = tx2.reserved(graph.rebatch(batch), keep_gradients=True)
                row = {
                    "network": network,
                    "batch": batch,
                    "allocated_mib": allocated,
                    "error_%": 100 * (found.allocated_bytes / MIB / allocated - 1),
                    "kept_error_%": 100 * (kept.allocated_bytes / MIB / allocated - 1),
                    "reserved_mib": reserved,
                    "reserved_error_%": 100 * (found.reserved_bytes / MIB / reserved - 1),
                }
                rows.append(row)
                errors.append((network, row["error_%"], row["kept_error_%"], row["reserved_error_%"]))
        ran = max(batch for batch, (ok, _) in sizes.items() if ok)
        boundary = f"{ran} ran, {max(fitting, default=0)} fits, {right} of {len(sizes)} right"
        rows.append({"network": network, "batch": "largest", "boundary": boundary})
    for network in (*table, "all"):
        some = np.array([e[1:] for e in errors if network in (e[0], "all")])
        rows.append(
            {
                "network": network + " mean |error|",
                "error_%": float(np.abs(some[:, 0]).mean()),
                "kept_error_%": float(np.abs(some[:, 1]).mean()),
                "reserved_error_%": float(np.abs(some[:, 2]).mean()),
            }
        )
    publish("allocated and reserved memory on a Jetson TX2, unpruned networks", rows, options.json)


if __name__ == "__main__":
    main()
