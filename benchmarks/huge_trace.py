"""Memory of the process while it traces a network whose training step needs over 100 GB. Limit: 2 GB."""

from __future__ import annotations

import resource
import time

import torch
from harness import arguments, publish

from simulator.memory import replay
from workloads.tracer import trace

LIMIT_BYTES = 2e9


def main() -> None:
    options = arguments(__doc__, network="resnet50", batch=2048)
    torch.set_num_threads(1)
    start = time.process_time()
    graph = trace(options.network, batch=options.batch)
    seconds = time.process_time() - start
    needed = replay(graph).peak_bytes
    used = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = [
        {
            "network": options.network,
            "batch": options.batch,
            "step_needs_GB": needed / 1e9,
            "process_peak_rss_GB": used / 1e9,
            "limit_GB": LIMIT_BYTES / 1e9,
            "ratio": used / LIMIT_BYTES,
            "trace_cpu_s": seconds,
            "met": used <= LIMIT_BYTES and needed > 100e9,
        }
    ]
    publish("memory while tracing a step that needs over 100 GB", rows, options.json)


if __name__ == "__main__":
    main()
