"""Processors with caches: what an op costs by the algorithm that a library of CPU kernels uses for it."""
