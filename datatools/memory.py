"""What the C library does with freed memory."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 512 << 20


def reuse_freed_memory() -> bool:
    """Let this process keep freed memory, up to half a gigabyte, for its next pictures. True where that is possible.

    Without it every large array is new memory from the system, which is cleared page by page: a quarter of the time of
    a padded face (`python benchmarks/crop.py`). glibc only; elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 32 << 20) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
