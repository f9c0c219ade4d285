"""What the ops of a graph do, in columns: MACs, FLOPs, bytes, loop nests.

Conventions. A MAC is one multiply-accumulate and counts 2 FLOPs; every other arithmetic operation on an element
(add, compare, exp, square root) counts 1. Bytes are the compulsory traffic of the op run on its own: each operand
read once and each result written once, except where an algorithm must pass over its input twice.

Ops that look alike (kind, layouts, attributes) share one row, so a ResNet's 1,250 ops are 200 rows. Rows may be
evaluated at many batch sizes at once; columns then have one column of numbers per size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.alike import alike, mutated, repeated
from simulator.errors import TrainwattError
from simulator.extent import Extent, evaluate
from simulator.graph import ITEM_BYTES, Graph, evaluate_attrs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

KERNELS = (
    "view",
    "convolution",
    "depthwise",
    "gemm",
    "attention",
    "rnn",
    "elementwise",
    "norm",
    "pool",
    "softmax",
    "reduction",
    "copy",
    "gather",
    "interpolate",
    "random",
)
"""Kernel classes: what a device model may treat alike. A `view` launches nothing."""

PARTS = ("", "forward", "input", "weight")
"""Which loops of a convolution's nest carry the sum: c, r, s in forward, k, r, s in grad-input, n, p, q in grad-weight.
Every other op has no such part."""


class Nest(NamedTuple):
    """The loop nest of an op of MACs. Every field is a number of iterations, or 1 where there is no such loop.

    Convolutions: `n` images, `g` groups, `k` output and `c` input channels per group, `p` x `q` output positions,
    `r` x `s` filter taps, for all three of forward, grad-input and grad-weight (the same loops, another
    loop carries the sum). Matrix products: `n` products of (`p` x `c`) by (`c` x `k`).
    MACs = n*g*k*c*p*q*r*s.
    """

    n: Any = 1
    g: Any = 1
    k: Any = 1
    c: Any = 1
    p: Any = 1
    q: Any = 1
    r: Any = 1
    s: Any = 1
    stride_h: Any = 1
    stride_w: Any = 1
    dilation_h: Any = 1
    dilation_w: Any = 1

    @property
    def macs(self) -> Any:
        return self.n * self.g * self.k * self.c * self.p * self.q * self.r * self.s


class Row(NamedTuple):
    """What one execution of an op does. `launches` counts kernels (one for most ops, none for views), `part` is one of
    `PARTS`."""

    kernel: str
    flops: Any = 0
    read_bytes: Any = 0
    written_bytes: Any = 0
    macs: Any = 0
    nest: Nest | None = None
    launches: int = 1
    part: str = ""


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor as a rule sees it: plain numbers (or one number per batch size)."""

    shape: tuple[Any, ...]
    stride: tuple[Any, ...]
    dtype: str

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.dtype]

    @property
    def numel(self) -> Any:
        count: Any = 1
        for extent in self.shape:
            count = count * extent
        return count

    @property
    def bytes(self) -> Any:
        return self.numel * self.item_bytes

    @property
    def touched_bytes(self) -> Any:
        """Bytes of the distinct elements: a dimension of stride 0 (an expanded tensor) is read once."""
        count: Any = self.item_bytes
        for extent, stride in zip(self.shape, self.stride, strict=True):
            if not (isinstance(stride, int) and stride == 0):
                count = count * extent
        return count

    @property
    def channels_last(self) -> bool:
        """Whether the channels of an image (N, C, H, W) lie next to each other, in a way that shows in its strides."""
        if len(self.shape) != 4 or not (isinstance(self.stride[1], int) and self.stride[1] == 1):
            return False
        channels, rows, columns = self.shape[1:]
        return bool(np.all((channels > 1) & (rows * columns > 1)))


@dataclass(frozen=True, slots=True)
class Call:
    """An op as a rule sees it. `written` are the operands it writes: its outputs and what it mutates, each once."""

    kind: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    written: tuple[Operand, ...]
    attrs: Mapping[str, Any]


Rule = Callable[[Call], Row]


@dataclass(frozen=True)
class Work:
    """Columns of work. Every column has shape (rows,) or (rows, points); `kernel` and `dtype` hold codes into
    `KERNELS` and `dtypes`, shape (rows,). `row_of_op` maps the graph's ops to rows, shape (ops,), and `runs` is
    their expected number of executions. `nest` maps the names of `Nest` to columns. `part`, shape (rows,), holds codes
    into `PARTS`; rows that are not told apart are of no part. `bits`, shape (rows, 4): widths of the first and second
    operand in bits, and how many leading bits of each are done already, as `simulator.bits` annotates; 0 if not given.

    `kind`, shape (rows,), holds places of the op's kind in `simulator.rules.kinds()`, -1 where it is not told.
    `channels_last`, shape (rows,), is 1 where an operand is an image whose channels lie next to each other, else 0.

    Where an op stands in a step decides more than its shapes say, on devices that ask `simulator.reuse`. `off_core` and
    `off_chip`, shape (rows,), are the shares of its operands' bytes that have left the caches of a core, and all
    caches, since they were last touched (-1: not known), and `framework`, shape (rows,), is how often the framework
    handles the op beside launching it (0 for an op called alone).
    """

    kernel: Ints
    dtype: Ints
    dtypes: tuple[str, ...]
    launches: Floats
    macs: Floats
    flops: Floats
    read_bytes: Floats
    written_bytes: Floats
    nest: Mapping[str, Floats]
    row_of_op: Ints
    runs: Floats
    missing: tuple[str, ...] = ()
    part: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    bits: Ints = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))
    kind: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    off_core: Floats = field(default_factory=lambda: np.zeros(0))
    off_chip: Floats = field(default_factory=lambda: np.zeros(0))
    framework: Floats = field(default_factory=lambda: np.zeros(0))
    channels_last: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        for name, absent in (("off_core", -1.0), ("off_chip", -1.0), ("framework", 0.0), ("channels_last", 0.0)):
            if len(getattr(self, name)) != len(self.kernel):
                object.__setattr__(self, name, np.full(len(self.kernel), absent))
        if len(self.kind) != len(self.kernel):
            object.__setattr__(self, "kind", np.full(len(self.kernel), -1))
        if len(self.part) != len(self.kernel):
            object.__setattr__(self, "part", np.zeros(len(self.kernel), dtype=np.int64))
        if len(self.bits) != len(self.kernel):
            object.__setattr__(self, "bits", np.zeros((len(self.kernel), 4), dtype=np.int64))

    @property
    def traffic_bytes(self) -> Floats:
        return self.read_bytes + self.written_bytes

    def select(self, rows: Ints, row_of_op: Ints | None = None, runs: Floats | None = None) -> Work:
        """Return work of these rows, shape (new rows,), and ops that are among them: one for each row if not given."""
        kept = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in NOT_BY_ROW}
        return replace(
            self,
            **kept,
            nest={name: column[rows] for name, column in self.nest.items()},
            row_of_op=np.arange(len(rows)) if row_of_op is None else row_of_op,
            runs=np.ones(len(rows)) if runs is None else runs,
        )

    def total(self, column: Floats) -> Any:
        """Return the sum of a column over all executions of all ops (a float, or one per point)."""
        weight = np.bincount(self.row_of_op, weights=self.runs, minlength=len(self.kernel))
        return weight @ column


NOT_BY_ROW = ("dtypes", "nest", "row_of_op", "runs", "missing")
"""Fields of `Work` that are no columns over rows."""


def stack(works: Sequence[Work]) -> Work:
    """Return the work of several graphs in one table, to be priced in one call: rows and ops one after another.

    All must be evaluated at equally many points. Raises `TrainwattError` where they are not, or there are none.
    """
    if not works:
        raise TrainwattError("no work to stack; give at least one table")
    if len({work.macs.shape[1:] for work in works}) != 1:
        raise TrainwattError("work tables of different points; evaluate all at equally many batch sizes")
    dtypes = tuple(dict.fromkeys(name for work in works for name in work.dtypes))
    first_row = np.cumsum([0, *(len(work.kernel) for work in works[:-1])])
    numbers = ("launches", "macs", "flops", "read_bytes", "written_bytes", "runs")
    columns = ("kernel", "part", "bits", "kind", *numbers, "off_core", "off_chip", "framework", "channels_last")
    return Work(
        **{name: np.concatenate([getattr(work, name) for work in works]) for name in columns},
        dtype=np.concatenate([_codes(work.dtypes, dtypes)[work.dtype] for work in works]),
        dtypes=dtypes,
        nest={name: np.concatenate([work.nest[name] for work in works]) for name in Nest._fields},
        row_of_op=np.concatenate([work.row_of_op + row for work, row in zip(works, first_row, strict=True)]),
        missing=tuple(dict.fromkeys(kind for work in works for kind in work.missing)),
    )


def _codes(names: tuple[str, ...], among: tuple[str, ...]) -> Ints:
    return np.array([among.index(name) for name in names], dtype=np.int64)


def work_of(
    graph: Graph,
    batches: Sequence[int] | None = None,
    *,
    at: Mapping[str, Ints] | None = None,
    unknown: str = "stop",
    ops: Sequence[int] | None = None,
) -> Work:
    """Return the work of every op of `graph`, at its own batch size or at each of `batches`.

    `at` gives dimensions other sizes directly, shape (points,) each; what it does not name keeps the graph's size,
    shares included. An op without a rule raises `TrainwattError`; with `unknown="list"` it counts nothing and its
    kind is in `Work.missing`. `ops` are the numbers of the ops that are wanted, all by default.
    """
    from simulator.bits import BITS, DONE
    from simulator.rules import kinds, rules

    known, place = rules(), kinds()
    sizes: Mapping[str, Any] = {**graph.sizes, **(at or {})}
    if batches is not None:
        wrong = [b for b in batches if graph.other is not None and (b > 1) != (graph.smallest_batch > 1)]
        if wrong:
            raise TrainwattError(f"batch {wrong[0]} has a graph of its own here; price it alone")
        sizes = graph.bound({**sizes, "batch": np.asarray(batches, dtype=np.int64)})
    operands: dict[int, Operand] = {}
    numbers: dict[Extent, Any] = {}

    def number(extent: Extent) -> Any:
        if isinstance(extent, int):
            return extent
        found = numbers.get(extent)
        if found is None:
            found = numbers[extent] = evaluate(extent, sizes)
        return found

    def operand(tensor: int) -> Operand:
        layout = graph.tensors[tensor].layout
        found = operands.get(id(layout))
        if found is None:
            shape, stride = tuple(map(number, layout.shape)), tuple(map(number, layout.stride))
            found = operands[id(layout)] = Operand(shape, stride, layout.dtype)
        return found

    rows: list[Row] = []
    dtypes: list[str] = []
    bits: list[tuple[int, ...]] = []
    last: list[bool] = []
    missing: dict[str, None] = {}
    distinct = alike(graph, ops)
    for op in [graph.ops[i] for i in distinct.first]:
        rule = known.get(op.kind)
        if rule is None:
            if unknown != "list":
                where = f" in {op.layer}" if op.layer else ""
                raise TrainwattError(
                    f"no work rule for op {op.kind!r} ({op.name}{where}); "
                    "add one to simulator/rules or pass '--unknown list'"
                )
            missing[op.kind] = None
            rows.append(Row("elementwise", launches=0))
        else:
            outputs = tuple(map(operand, op.outputs))
            call = Call(
                op.kind,
                tuple(map(operand, op.inputs)),
                outputs,
                outputs + tuple(map(operand, mutated(op))),
                evaluate_attrs(op.attrs, sizes),
            )
            rows.append(_read_once(rule(call), call, repeated(op.inputs)))
        dtypes.append(_compute_dtype(graph, op.inputs or op.outputs))
        last.append(any(operand(t).channels_last for t in (*op.inputs, *op.outputs)))
        bits.append((*op.attrs.get(BITS, (0, 0)), *op.attrs.get(DONE, (0, 0))))
    points = np.broadcast_shapes(*map(np.shape, sizes.values()))
    runs = [op.runs for op in (graph.ops if ops is None else [graph.ops[i] for i in ops])]
    kind = np.array([place.get(graph.ops[i].kind, -1) for i in distinct.first], dtype=np.int64)
    found = _columns(rows, dtypes, bits, kind, distinct.row_of_op, runs, points, tuple(missing))
    return replace(found, channels_last=np.array(last, dtype=np.float64))


def _read_once(row: Row, call: Call, again: tuple[int, ...]) -> Row:
    """Return `row` without the second read of an operand that an elementwise kernel is given twice."""
    if row.kernel != "elementwise" or not again:
        return row
    twice = sum(call.inputs[i].touched_bytes for i in again)
    return row._replace(read_bytes=row.read_bytes - twice)


def _compute_dtype(graph: Graph, tensors: tuple[int, ...]) -> str:
    """The precision an op computes in: the first floating-point operand's, else the first operand's."""
    names = [graph.tensors[t].layout.dtype for t in tensors]
    return next((name for name in names if "float" in name), names[0] if names else "float32")


def _columns(
    rows: list[Row],
    dtypes: list[str],
    bits: list[tuple[int, ...]],
    kind: Ints,
    row_of_op: Ints,
    runs: list[float],
    points: tuple[int, ...],
    missing: tuple[str, ...],
) -> Work:
    def column(values: list[Any]) -> Floats:
        if not points:
            return np.array(values, dtype=np.float64)
        found = np.empty((len(values), *points))
        for i, value in enumerate(values):
            found[i] = value
        return found

    kernel_code = {name: code for code, name in enumerate(KERNELS)}
    dtype_names = tuple(dict.fromkeys(dtypes))
    dtype_code = {name: code for code, name in enumerate(dtype_names)}
    nests = [row.nest or Nest() for row in rows]
    return Work(
        kernel=np.array([kernel_code[row.kernel] for row in rows], dtype=np.int64),
        dtype=np.array([dtype_code[name] for name in dtypes], dtype=np.int64),
        dtypes=dtype_names,
        launches=np.array([row.launches for row in rows], dtype=np.float64),
        macs=column([row.macs for row in rows]),
        flops=column([row.flops for row in rows]),
        read_bytes=column([row.read_bytes for row in rows]),
        written_bytes=column([row.written_bytes for row in rows]),
        nest={name: column([nest[j] for nest in nests]) for j, name in enumerate(Nest._fields)},
        row_of_op=row_of_op,
        runs=np.array(runs, dtype=np.float64),
        missing=missing,
        part=np.array([PARTS.index(row.part) for row in rows], dtype=np.int64),
        bits=np.array(bits, dtype=np.int64).reshape(len(rows), 4),
        kind=kind,
    )
