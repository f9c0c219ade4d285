"""FPGA training accelerators: a board, a design on it, what it costs, and the best design for a step."""

from hwmodels.fpga.choose import design_for
from hwmodels.fpga.design import design_file
from hwmodels.fpga.file import build, with_design
from hwmodels.fpga.search import best_design

__all__ = ["best_design", "build", "design_file", "design_for", "with_design"]
