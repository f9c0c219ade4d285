"""Channels-last memory format, for real."""

from __future__ import annotations

from dataclasses import replace

from simulator.techniques.channels_last import ChannelsLast, refuse_again
from workloads.sources import in_channels_last
from workloads.workload import Workload


def workload(technique: ChannelsLast, workload: Workload) -> Workload:
    """Return the workload with parameters and images in channels-last memory format."""
    refuse_again(bool(workload.meta.get("channels_last")))
    changed = in_channels_last(workload)
    return replace(changed, meta={**changed.meta, "channels_last": True})
