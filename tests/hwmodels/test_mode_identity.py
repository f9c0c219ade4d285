"""Scaling a device to a mode like its own changes nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hwmodels.device import FOLDER, device, devices
from simulator.graph import Graph
from simulator.work import work_of


@pytest.mark.parametrize("name", devices())
def test_a_mode_with_the_numbers_of_the_default_mode_costs_what_that_costs(
    name: str, step: Graph, tmp_path: Path
) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    default = tomllib.loads(text)["default_mode"]
    block = re.search(rf'^\[modes\."?{re.escape(default)}"?\]\n(.*?)(?=^\[|\Z)', text, re.M | re.S)
    assert block is not None
    path = tmp_path / f"{name}.toml"
    path.write_text(f"{text}\n[modes.same]\n{block[1]}", encoding="utf-8")
    work = work_of(step)
    own, same = (device(path, mode).price(work) for mode in (default, "same"))
    assert np.array_equal(own.latency_s, same.latency_s)
    assert np.array_equal(own.energy_j, same.energy_j)
    assert own.waiting_w == same.waiting_w
