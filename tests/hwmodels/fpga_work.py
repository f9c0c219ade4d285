"""Work of a few rows and boards with a changed design, for the tests of the FPGA model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hwmodels.device import device
from hwmodels.fpga import with_design
from simulator.work import KERNELS, PARTS, Nest, Work

ZCU102: Any = device("zcu102")


def work_of_nests(*rows: dict[str, Any], bits: Any = None) -> Work:
    """Work of one op per row: a nest, its part, its kernel class and dtype; FLOPs are those of the MACs."""
    nests = [Nest(**{name: row[name] for name in Nest._fields if name in row}) for row in rows]
    macs = np.array([row.get("macs", nest.macs) for row, nest in zip(rows, nests, strict=True)], dtype=np.float64)
    dtypes = tuple(dict.fromkeys(row.get("dtype", "float32") for row in rows))

    def column(name: str, default: float = 0.0) -> Any:
        return np.array([row.get(name, default) for row in rows], dtype=np.float64)

    return Work(
        kernel=np.array([KERNELS.index(row.get("kernel", "convolution")) for row in rows], dtype=np.int64),
        dtype=np.array([dtypes.index(row.get("dtype", "float32")) for row in rows], dtype=np.int64),
        dtypes=dtypes,
        launches=column("launches", 1.0),
        macs=macs,
        flops=2 * macs + column("vector"),
        read_bytes=column("read"),
        written_bytes=column("written"),
        nest={name: np.array([getattr(n, name) for n in nests], dtype=np.float64) for name in Nest._fields},
        row_of_op=np.arange(len(rows)),
        runs=np.ones(len(rows)),
        part=np.array([PARTS.index(row.get("part", "")) for row in rows], dtype=np.int64),
        **({} if bits is None else {"bits": np.array(bits, dtype=np.int64)}),
    )


def designed(board: Any = ZCU102, **changes: Any) -> Any:
    texts = {name: changes.pop(name) for name in ("precision", "arithmetic") if name in changes}
    return with_design(board, dataclasses.replace(board.design.changed("a test", **changes), **texts))
