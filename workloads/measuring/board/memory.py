# ruff: noqa: UP006, UP035
"""What a process holds, and errors that say there is too little."""

import resource
from typing import Dict

import torch


def fits_not(error: BaseException) -> bool:
    """Tell whether an error says that there is not enough memory; PyTorch's CPU allocator raises a RuntimeError."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("can't allocate memory", "out of memory", "not enough memory", "cuda_error_out")
    )


def most_held(device: str) -> Dict[str, float]:
    """Return the most that was held so far, in bytes, by metric.

    On the graphics processor by tensors (`peak_memory`) and by PyTorch's caching allocator for them
    (`reserved_memory`), else by the process (`resident_memory`).
    """
    if device != "cuda":
        return {"resident_memory": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    return {
        "peak_memory": float(torch.cuda.max_memory_allocated()),
        "reserved_memory": float(torch.cuda.max_memory_reserved()),
    }
