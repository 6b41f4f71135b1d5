"""A small disk of its own for a gateway's data, so that a test can fill it and harm nobody (Linux, as root)."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SmallDisk", "small_disk"]

#: Holds what a run keeps for some seconds many times over, and is filled in a moment. It is memory.
SIZE_BYTES = 32 * 1024 * 1024

#: Detach even where a process still has a file open there: it goes when that process does (linux/fs.h).
_MNT_DETACH = 2


class SmallDisk:
    """A folder that can be full."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all the room that is left."""
        block = b"\0" * 65_536
        with self._filler.open("wb", buffering=0) as file:
            while block:
                try:
                    file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    # Smaller and smaller: the last page counts, too.
                    block = block[: len(block) // 2]

    def make_room(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | str]:
    """Mount a small disk at ``folder`` until the block ends; where that cannot be, yield why not."""
    if (reason := _mount(folder)) is not None:
        yield reason
        return
    try:
        yield SmallDisk(folder)
    finally:
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)


def _mount(folder: Path) -> str | None:
    if sys.platform != "linux":
        return "a disk of its own needs Linux"
    if os.geteuid() != 0:
        return "a disk of its own needs root"
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={SIZE_BYTES},mode=0700".encode()
    if libc.mount(b"recado-torture", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options) != 0:
        return f"a disk of its own cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return None
