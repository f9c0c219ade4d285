"""The benchmark on measured boards: its composed networks are the deployed traces, its protocol finds what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simulator.rewriting.deploying import Runtime, deployed
from simulator.work import KERNELS, Work, work_of
from workloads import trace

CELLS = (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|avg_pool_3x3~2|",
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|",
)
SKIP_AND_DEAD = "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|skip_connect~1|none~2|"
"""Node 2 is a convolution that leads nowhere but into a product with zero."""


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


def totals(work: Work) -> dict[str, tuple[float, ...]]:
    """Return executions, MACs and bytes by kernel class, without views."""
    found = {}
    for code in np.unique(work.kernel):
        rows = (work.kernel == code).astype(np.float64)
        if KERNELS[code] != "view":
            columns = (rows, rows * work.macs, rows * work.traffic_bytes)
            found[KERNELS[code]] = tuple(float(work.total(column)) for column in columns)
    return found


@pytest.mark.parametrize("cell", CELLS)
def test_a_composed_network_is_the_deployed_trace_of_the_whole(cell: str) -> None:
    from boards_cells import Networks
    from boards_networks import nasbench201
    from boards_rows import Rows

    graph = trace(
        nasbench201(cell), batch=1, input_shape=(3, 32, 32), classes=10, batch_norm="eval", rebatches=False
    )  # fmt: skip
    for runtime in (
        Runtime("drop"),
        Runtime("scale", merges=False),
        Runtime("run"),
        Runtime("constant", merges=False),
        Runtime("constant", merges=False, chains=True),
    ):
        rows = Rows()
        composed = rows.work(Networks(rows).ops(cell, runtime))
        assert totals(composed) == totals(work_of(deployed(graph, runtime, zero=r".*ops\.\d+|\d+")))


def test_a_composed_network_of_the_mnasnet_space_is_the_deployed_trace() -> None:
    import boards_mnasnet
    from boards_networks import IMAGE, mnasnet
    from boards_rows import Rows

    row = {f"block{i}_{name}": str(v) for i in range(7) for name, v in zip("ekl", (4, 5, 2), strict=True)}
    row |= {f"block{i}_se": str(i in (1, 3)) for i in range(7)}
    row |= {"block0_e": "1", "block4_l": "1", "block5_k": "3"}
    graph = trace(mnasnet(row), batch=1, input_shape=IMAGE, classes=1000, batch_norm="eval", rebatches=False)
    rows = Rows()
    assert totals(rows.work(boards_mnasnet.ops(rows, row))) == totals(work_of(deployed(graph, Runtime())))


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (Runtime("drop"), []),  # y = x + node 1, which is zero
        (Runtime("scale"), ["relu", "conv 3x3", "add"]),  # and node 2 with zero weights
    ],
)
def test_what_is_left_of_a_cell_whose_convolution_is_dead(runtime: Runtime, expected: list[str]) -> None:
    from boards_cells import executed

    assert list(executed(SKIP_AND_DEAD, runtime)) == expected


def test_chains_of_a_cell_are_one_op_and_a_relu_behind_a_sum_is_part_of_it() -> None:
    from boards_cells import counts, executed

    runtime = Runtime("constant", merges=False, chains=True)
    cell = "|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"
    # Node 1 is 0 + pool, which two ReLUs take; node 2, 0 + pool + conv, goes into node 3, 0 + pool + conv + node 2
    ops = ["pool", "sum", "pool", "relu", "conv 1x1", "pool", "relu", "conv 3x3", "add 4"]
    assert list(executed(cell, runtime)) == ops
    assert counts(cell, runtime) == [1, 1, 1, 3, 1, 1, 2, 0, 0]
    single = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|nor_conv_3x3~2|"
    # Every ReLU alone takes a sum, the first that of the cell before
    assert [name for name in executed(single, runtime) if name == "relu"] == []


def test_the_chosen_method_is_the_one_that_predicts_the_points_at_hand() -> None:
    from boards_phone import left_out, predicted, seen_of

    batches = (1, 2, 4, 8, 16)
    rows = [{"batch_size": str(b), "ms": str(7.0 + 3.0 * b)} for b in batches]
    seen, batch = seen_of("Lenet", rows, "ms", 1e-3), np.array(batches, dtype=np.float64)
    np.testing.assert_allclose(left_out(seen, batch, "chosen"), seen.seconds, rtol=1e-6)
    twice = np.array([0, 1, 2, 3])
    assert predicted(seen, batch, "chosen", twice)[4] == pytest.approx(predicted(seen, batch, "affine", twice)[4])


def test_connected_is_a_cell_whose_output_depends_on_its_input() -> None:
    from boards_cells import is_connected

    assert is_connected("|none~0|+|skip_connect~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|")
    assert not is_connected("|none~0|+|skip_connect~0|none~1|+|none~0|nor_conv_1x1~1|none~2|")
    assert not is_connected("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|skip_connect~2|")


def test_clocks_of_a_dpu_round_up_channels_and_pixels() -> None:
    from boards_dpu import BYTE_PER_S, CLOCK_HZ, Dpu
    from boards_rows import Rows

    rows = Rows()
    ops = [rows.convolution(17, 16, (4, 9), 3, bias=False), rows.convolution(32, 32, (4, 9), 5, groups=32, bias=False)]
    work = rows.work(ops)
    seconds = Dpu().price(work).latency_s[work.row_of_op]
    # ceil(17 / 16) ceil(16 / 16) 4 ceil(9 / 8) 9 clocks; 17 x 16 x 9 weights of a byte
    assert seconds[0] == pytest.approx(2 * 1 * 4 * 2 * 9 / CLOCK_HZ + 17 * 16 * 9 / BYTE_PER_S)
    # ceil(32 / 16) 4 ceil(9 / 4) 25 clocks; 32 x 25 weights
    assert seconds[1] == pytest.approx(2 * 4 * 3 * 25 / CLOCK_HZ + 32 * 25 / BYTE_PER_S)


def test_a_map_beyond_a_bank_of_a_dpu_goes_through_memory() -> None:
    from boards_dpu import BANK_BYTES, Dpu
    from boards_rows import Rows

    rows = Rows()
    small, large = (rows.mean(int(BANK_BYTES) // 1024 + more, (32, 32)) for more in (0, 1))
    memory = Dpu().price(rows.work([small, large])).seconds["memory"]
    assert memory[0] == 0 < memory[1]


def test_the_protocol_finds_times_that_the_columns_and_the_corrected_model_can_say() -> None:
    from boards_cells import Networks, counts
    from boards_protocol import Board, compare
    from boards_rows import Rows
    from boards_sets import one_core

    ops = ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect")
    draw = np.random.default_rng(0)
    cells = [
        "+".join("|" + "|".join(f"{draw.choice(ops)}~{s}" for s in range(node)) + "|" for node in (1, 2, 3))
        for _ in range(60)
    ]
    base, networks, runtime = one_core("raspberry-pi-4b"), Networks(Rows()), Runtime()
    measured = []
    for cell in dict.fromkeys(cells):
        made = networks.ops(cell, runtime)
        work = networks.rows.work(made)
        measured.append(networks.rows.measured(made, 3 * float(work.total(base.price(work).latency_s)), cell))
    columns = np.array([counts(cell, runtime) for cell in dict.fromkeys(cells)])
    rows = {row["method"]: row["error_%"] for row in compare(Board("made up", base, measured, columns), (20,), 2)}
    assert rows["uncalibrated"] == pytest.approx(100 * 2 / 3)
    assert rows["columns"] < 1
    assert rows["calibrated"] < 2
    assert rows["forest"] > rows["columns"]


def test_tables_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    from boards_sets import boards

    assert list(boards(tmp_path)) == []
