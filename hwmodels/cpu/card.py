"""All that is known of a CPU, as a plain dict."""

from __future__ import annotations

from collections.abc import Mapping

from hwmodels.numbers import Number, derived


def card(
    name: str,
    texts: Mapping[str, str],
    numbers: Mapping[str, Number],
    modes: tuple[str, ...],
    mode: str,
    made: Mapping[str, Number],
) -> dict[str, object]:
    """Return a device's card in `mode`: every number with value, unit, kind and source.

    `made` holds what was computed for the mode: launch, region, active, usable, peak, read, write, copy.
    """

    def table(start: str) -> dict[str, Number]:
        return {p.removeprefix(f"{start}."): n for p, n in numbers.items() if p.startswith(f"{start}.")}

    def entries(found: Mapping[str, Number]) -> dict[str, object]:
        return {key: number.entry for key, number in found.items()}

    here = table(f"modes.{mode}")
    units, clock = here["units"], here["clock"]
    peaks = {
        dtype: derived(
            units.value * clock.value * rate.value,
            "FLOP/s",
            f"{units} {texts['unit']}s x {clock} x {rate}",
            units,
            clock,
            rate,
        )
        for dtype, rate in table("compute").items()
    }
    copy, scaling = made["copy"], numbers["bandwidth.scaling"]
    effective = derived(
        min(2 * copy.value * scaling.value, made["peak"].value),
        "byte/s",
        f"2 x {copy} x {scaling}: read and written by a copy with all cores, at most the peak",
        copy,
        scaling,
    )
    rates = {field: made[field] for field in ("read", "write", "copy")}
    energies = table("energy")
    return {
        "name": name,
        "description": texts["description"],
        "processor": texts["processor"],
        "unit": texts["unit"],
        "mode": mode,
        "modes": list(modes),
        "default_mode": texts["default_mode"],
        "kernel_library": texts["kernel_library"],
        "energy_scope": texts["energy_scope"],
        "peaks": entries(peaks),
        "bandwidths": entries({"peak": made["peak"], "effective": effective, **table("bandwidth"), **rates}),
        "launch": entries({"time": made["launch"]}),
        "threads": entries({**table("threads"), "region": made["region"]}),
        "powers": entries({"static": numbers["power.static"], "active": made["active"]}),
        "energies": entries(energies),
        "efficiencies": entries(table("efficiency")),
        "memory": entries({**table("memory"), "usable": made["usable"]}),
        "clocks": entries(here),
        "compute": entries(table("compute")),
        "core": entries(table("core")),
        **({"step": entries(table("step"))} if "step.cache" in numbers else {}),
        "caches": entries(table("caches")),
    }
