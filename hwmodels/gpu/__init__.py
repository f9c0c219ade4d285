"""The embedded GPU: kernels as tiles in waves over the SMs, caches and DRAM, a host that dispatches."""
