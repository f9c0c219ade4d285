"""The memory that PyTorch's x86 CPU kernels allocate inside an op: oneDNN's blocked copies and scratch, ATen's own.

Every rule here was read off the allocation events of PyTorch 2.13 with oneDNN 3.12 (`torch.profiler` with
`profile_memory`), on AVX-512 and on the same machine held to AVX2: 1,414 convolutions for each, and the other ops one
by one. A rule says what the libraries of that release do; another release may block, choose or copy otherwise.
`benchmarks/peak_memory.py` holds the rules to whole training steps.
"""

from hwmodels.libraries.onednn.column import OneDnn, workspace_bytes

__all__ = ["OneDnn", "workspace_bytes"]
