"""A design by what a user writes: a file, or a search."""

from __future__ import annotations

from hwmodels.fpga.design import design_file
from hwmodels.fpga.file import with_design
from hwmodels.fpga.model import Fpga
from hwmodels.fpga.resources import shares
from hwmodels.fpga.search import best_design
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.work import Work


def design_for(device: HardwareModel, text: str, work: Work) -> tuple[Fpga, tuple[str, ...]]:
    """Return the device with another design, and lines about it: `auto` is the best for `work`, else a TOML file.

    Raises `TrainwattError` where the device is no FPGA, the file is wrong, or the design does not fit the board.
    """
    if not isinstance(device, Fpga):
        raise TrainwattError(f"a design for {device.name}; designs are for FPGA boards, such as zcu102")
    if text == "auto":
        return best_design(work, device)
    model = with_design(device, design_file(text))
    if model.missing:
        raise TrainwattError(f"{text} does not fit {device.name}, it takes {', '.join(model.missing)}; make it smaller")
    taken = ", ".join(f"{name} {share:.0%}" for name, share in shares(model.resources, model.board).items())
    return model, (f"design of {text}: {model.design}", f"takes of {device.name}: {taken}")
