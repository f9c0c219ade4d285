"""Energy above idle: what the static power alone would have taken is not counted."""

from __future__ import annotations

import pytest

from hwmodels.above_idle import AboveIdle
from hwmodels.device import device, devices
from simulator.estimate import estimate
from simulator.graph import Graph


@pytest.mark.parametrize("name", devices())
def test_energy_above_idle_is_less_by_static_power_times_time(name: str, step: Graph) -> None:
    model = device(name)
    whole, above = estimate(step, model), estimate(step, AboveIdle(model))
    assert above.total.latency_s == whole.total.latency_s
    idle = model.static_w * whole.total.latency_s
    assert above.total.energy_j == pytest.approx(whole.total.energy_j - idle, rel=1e-6, abs=1e-12)
    assert 0 <= above.total.energy_j < whole.total.energy_j


@pytest.mark.parametrize("name", devices())
def test_the_output_names_what_was_subtracted(name: str) -> None:
    above = AboveIdle(device(name))
    assert "above idle" in str(above.card["energy_scope"])
    assert any("above idle" in line for line in above.assumptions)


@pytest.mark.parametrize("name", devices())
def test_rails_add_up_to_the_energy(name: str, step: Graph) -> None:
    for model in (device(name), AboveIdle(device(name))):
        report = estimate(step, model)
        if report.rails:
            assert sum(report.rails.values()) == pytest.approx(report.total.energy_j, rel=1e-6)
