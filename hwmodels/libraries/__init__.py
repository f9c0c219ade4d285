"""Kernel libraries: what their kernels allocate inside an op, beyond the op's own operands and results."""
