"""The CPU model held against published measurements: HPL on boards, gradient filtering of single layers, phones.

`claims` prints every claim of `analysis/claims` about a CPU with our value; `groups` the rank correlation (Spearman)
and the median |ln(ours/published)| of each figure and device, next to those of the bare ratio of multiply-accumulates.
Phones: MNN on four Cortex-A76 at 1.7088 GHz, priced as the Rock 5B at that clock with 2 MiB of L3 and Winograd;
skipped where the file of measurements (`--phones`) is absent.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import statistics
from pathlib import Path

from harness import arguments, publish
from scipy.stats import spearmanr

from analysis.claims import Claim, claims, judge
from hwmodels.cpu.library import LIBRARIES
from hwmodels.cpu.model import Cpu
from hwmodels.device import device
from simulator.estimate import estimate

PAPERS = ("geerling_hpl", "yang2023_cpu")
PHONE = "MEIZU_Freq_1708800"
PHONE_CLOCK_HZ = 1.7088e9
PHONE_L3_BYTES = 2 * 2**20


def promised(claim: Claim) -> float:
    """What the ratio of multiply-accumulates says: k^2 Ho Wo / P for a backward, a third of the layer forward."""
    at = claim.arguments
    patch, high, wide = (int(at[name]) for name in ("patch", "high", "wide"))
    ratio = 9 * high * wide / (-(-high // patch) * -(-wide // patch))
    if claim.metric == "filtered-backward-speedup":
        return ratio
    return 1 / ratio if claim.metric == "filtered-backward-energy" else 100 * (1 + 2 / ratio) / 3


def error(ours: list[float], published: list[float]) -> float:
    """Return the median of |ln(ours / published)|."""
    return statistics.median(abs(math.log(a / b)) for a, b in zip(ours, published, strict=True))


def phone() -> Cpu:
    """Return four Cortex-A76 at the clock of the measurements; memory as on the Rock 5B."""
    board = device("rock-5b")
    assert isinstance(board, Cpu)
    slower = PHONE_CLOCK_HZ / board.clock_hz
    caches = [dataclasses.replace(c, byte_per_s=c.byte_per_s * slower) for c in board.processor.caches]
    caches[-1] = dataclasses.replace(caches[-1], size_bytes=PHONE_L3_BYTES)
    processor = dataclasses.replace(board.processor, caches=tuple(caches), library=LIBRARIES["winograd"])
    return dataclasses.replace(board, name="phone", clock_hz=PHONE_CLOCK_HZ, processor=processor)


def phone_rows(path: Path) -> list[dict[str, object]]:
    """Return AlexNet's training steps: published and ours. The other networks of the file are not those we have."""
    from workloads.tracer import trace

    model, rows = phone(), []
    graph = trace("alexnet", batch=2)
    for row in csv.DictReader(path.open(encoding="utf-8")):
        if (row["device"], row["network"]) == (PHONE, "Alexnet"):
            ours = estimate(graph.rebatch(int(row["batch_size"])), model).total
            published = float(row["train_ms_per_batch"])
            line: dict[str, object] = {"batch": int(row["batch_size"]), "published_ms": published}
            rows.append({**line, "ours_ms": 1e3 * ours.latency_s, "ln": math.log(1e3 * ours.latency_s / published)})
    return rows


def main() -> None:
    options = arguments(__doc__, phones="")
    listed: list[dict[str, object]] = []
    groups: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for paper in PAPERS:
        for claim in claims(paper):
            verdict = judge(claim)
            name = str(claim.arguments["device"])
            at = " ".join(str(v) for k, v in claim.arguments.items() if k != "device")
            listed.append({"device": name, "metric": claim.metric, "at": at, "published": claim.value,
                           "ours": verdict.ours, "error": verdict.error, "met": str(verdict.met)})  # fmt: skip
            if paper == "yang2023_cpu":
                groups.setdefault((claim.metric, name, claim.where), []).append(
                    (claim.value, verdict.ours, promised(claim))
                )
    publish("claims", listed, options.json)
    summary: list[dict[str, object]] = []
    for (metric, name, _), values in groups.items():
        published, ours, macs = (list(column) for column in zip(*values, strict=True))
        summary.append({"metric": metric, "device": name, "rows": len(values),
                        "spearman": float(spearmanr(published, ours).statistic), "median_ln": error(ours, published),
                        "macs_spearman": float(spearmanr(published, macs).statistic),
                        "macs_median_ln": error(macs, published)})  # fmt: skip
    publish("groups", summary, options.json)
    if Path(options.phones).is_file():
        publish("AlexNet on a phone (MNN)", phone_rows(Path(options.phones)), options.json)


if __name__ == "__main__":
    main()
