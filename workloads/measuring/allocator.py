"""The C library's allocator while measuring: it keeps what was freed.

By default glibc gives large blocks back to the system when they are freed, and the end of its heap when enough of it
is free, so that the next tensor comes page by page: about 2 us for 4096 bytes on a virtual machine. How often that
happens in a training step depends on what the process did before: from none to 31,000 page faults, up to a sixth of
the step, in runs of one and the same network. Measured is therefore with memory that is kept, as with the allocators
(jemalloc, tcmalloc) that PyTorch's performance guide recommends.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of mallopt(3)
_NEVER = 2**31 - 1
_GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, for this process; False where it is another one than glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(
        mallopt(option, value) == 1
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROWTH_BYTES))
    )
