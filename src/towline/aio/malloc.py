"""Tells glibc to keep the memory of large reads instead of giving it back after each one.

Every socket read of uvloop is up to 256 KiB, above glibc's threshold for mapping memory anew; without this each read
of a bulk transfer is mapped, faulted in and unmapped. Other C libraries have no such knob.
"""

import ctypes
import platform

M_TRIM_THRESHOLD = -1  # malloc.h
M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024  # the largest that glibc accepts on 64 bits
TRIM_THRESHOLD_BYTES = 256 * 1024 * 1024  # free memory at the top of the heap that may stay
WORTH_GIVING_BACK = 1000  # objects of a kilobyte or so: a megabyte is worth some milliseconds


def give_back() -> None:
    """Return free memory to the system, after much of it was in use; takes some milliseconds. Only glibc can."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_large_blocks() -> bool:
    """Set both thresholds for this process; return False where that is not possible."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    done = [
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
    ]
    return all(done)


class Ebb:
    """Gives memory back when most of what was held has gone: what a flood needed is else kept for the next one."""

    def __init__(self) -> None:
        self._counted = 0

    def __repr__(self) -> str:
        return f"<Ebb behind {self._counted} objects>"

    def note(self, held: int, removed: int) -> bool:
        """Look whether it is time.

        Args: removed: how many objects have gone since the beginning; a flood that came and went between two looks
            shows in nothing else.
        Returns: whether memory was given back.
        """
        gone = removed - self._counted
        if gone < 0:  # whoever counts has begun anew
            self._counted, gone = 0, removed
        if gone < WORTH_GIVING_BACK or gone < held:
            return False
        self._counted = removed
        give_back()
        return True
