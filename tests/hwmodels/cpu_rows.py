"""Rows of work for tests of the CPU model."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.work import KERNELS, PARTS, Nest, Work

ITEM = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int8": 1, "int64": 8, "bool": 1}


def work_of_rows(rows: list[dict[str, Any]]) -> Work:
    """Work with one op per row. A row names its kernel, part and dtype, its nest, further FLOPs and its bytes; its
    multiply-accumulates are those of the nest where it has a kernel of them. Arrays have one number per point.
    """
    points = next((np.shape(v) for row in rows for v in row.values() if isinstance(v, np.ndarray)), ())

    def column(values: list[Any]) -> Any:
        return np.array([np.broadcast_to(np.asarray(v, dtype=np.float64), points) for v in values]).reshape(
            len(rows), *points
        )

    def macs(row: dict[str, Any]) -> Any:
        if row.get("kernel") not in ("convolution", "depthwise", "gemm", "attention", "rnn"):
            return 0.0
        product: Any = 1.0
        for name in ("n", "g", "k", "c", "p", "q", "r", "s"):
            product = product * row.get(name, 1.0)
        return product

    dtypes = tuple(dict.fromkeys(row.get("dtype", "float32") for row in rows))
    return Work(
        kernel=np.array([KERNELS.index(row.get("kernel", "elementwise")) for row in rows], dtype=np.int64),
        dtype=np.array([dtypes.index(row.get("dtype", "float32")) for row in rows], dtype=np.int64),
        dtypes=dtypes,
        launches=np.array([row.get("launches", 1.0) for row in rows], dtype=np.float64),
        macs=column([macs(row) for row in rows]),
        flops=column([2 * macs(row) + row.get("flops", 0.0) for row in rows]),
        read_bytes=column([row.get("read", 0.0) for row in rows]),
        written_bytes=column([row.get("written", 0.0) for row in rows]),
        nest={name: column([row.get(name, 1.0) for row in rows]) for name in Nest._fields},
        row_of_op=np.arange(len(rows)),
        runs=np.ones(len(rows)),
        part=np.array([PARTS.index(row.get("part", "")) for row in rows], dtype=np.int64),
    )


def product(m: int, n: int, k: int, dtype: str = "float32", count: int = 1) -> dict[str, Any]:
    """The row of `count` products (m x k) by (k x n)."""
    size = ITEM[dtype] * count
    read, written = size * (m * k + k * n), size * m * n
    return {"kernel": "gemm", "dtype": dtype, "n": count, "p": m, "k": n, "c": k, "read": read, "written": written}


def convolution(
    part: str, n: Any, c: int, k: int, p: int, q: int, taps: int = 3, stride: int = 1, groups: int = 1
) -> dict[str, Any]:
    """The row of a convolution of `c` to `k` channels per group, in float32."""
    x, y, w = n * groups * c * p * q * stride**2, n * groups * k * p * q, groups * k * c * taps**2
    read, written = {"forward": (x + w, y), "input": (y + w, x), "weight": (y + x, w)}[part]
    depthwise = groups > 1 and c == 1
    nest = {"n": n, "g": groups, "k": k, "c": c, "p": p, "q": q, "r": taps, "s": taps}
    strides = {"stride_h": stride, "stride_w": stride}
    kernel = "depthwise" if depthwise else "convolution"
    return {"kernel": kernel, "part": part, **nest, **strides, "read": 4 * read, "written": 4 * written}
