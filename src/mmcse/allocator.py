"""Memory that a process has freed is kept for what it needs next.

The C library of Linux gives large blocks back to the system, which hands them out again page by page, each cleared
anew. A network's passes free and need the same blocks many times a second: on one virtual machine up to a quarter of a
training step went there.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_LARGEST = 2**31 - 1
_ADAPTED = 32 << 20
"""Where the C library's thresholds end up by themselves, once a block of that size has been freed."""


def keep_freed_memory(keep: bool = True) -> bool:
    """Have the C library keep what is freed, up to 2 GB, rather than give it back.

    Args:
        keep: False lets it give memory back again, as it does by itself after large blocks were freed.

    Returns:
        Whether there is a C library that can be told so: GNU's.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {_TRIM_THRESHOLD: _LARGEST, _MMAP_MAX: 0, _MMAP_THRESHOLD: _ADAPTED}
    if not keep:
        wanted |= {_TRIM_THRESHOLD: 2 * _ADAPTED, _MMAP_MAX: 1 << 16}
    return all(library.mallopt(option, value) for option, value in wanted.items())
