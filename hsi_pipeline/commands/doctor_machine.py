"""Checks of the machine: memory, cores, disk."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hsi_pipeline.commands.checks import Finding

_GIB = 2**30
_SMALL_GIB = 4.0  # of memory, below which chunks must be small
_LITTLE_GIB = 2.0  # of disk
_CGROUPS = (  # of version 2, then 1; a container sees its own as the root
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def check_machine() -> Iterator[Finding]:
    """Look at memory and cores, and at what a container or batch job may use of them."""
    import psutil

    memory = psutil.virtual_memory()
    limit = _memory_limit()
    usable = min(memory.total, limit or memory.total) / _GIB
    text = f"memory {memory.total / _GIB:.1f} GiB, of which {memory.available / _GIB:.1f} are free"
    if limit is not None and limit < memory.total:
        text += f"; this program may use {limit / _GIB:.1f}"
    if usable < _SMALL_GIB:
        yield Finding("note", text, f"say classify --memory {max(usable / 2, 0.5):.1f}GiB")
    else:
        yield Finding("ok", text)
    from dask.system import CPU_COUNT  # which honours affinity and limits of containers

    yield Finding("ok", f"{CPU_COUNT} cores of {os.cpu_count()}")


def _memory_limit() -> int | None:
    """Return the bytes that the control group of this process may use; None for no limit."""
    for path in map(Path, _CGROUPS):
        if path.is_file():
            said = path.read_text(encoding="ascii").strip()
            return int(said) if said.isdigit() else None
    return None


def check_disk() -> Iterator[Finding]:
    """Write and map a file in the current and in the temporary folder."""
    folders = {
        "the current folder": Path.cwd(),
        "the temporary folder": Path(tempfile.gettempdir()),
    }
    for name, folder in folders.items():
        free = shutil.disk_usage(folder).free / _GIB
        text = f"{free:.1f} GiB are free in {name} ({folder})"
        try:
            _write(folder)
        except OSError as error:
            if name == "the current folder":
                mend = "results go where --out says; or change to a folder that is yours"
                yield Finding("note", f"{name} ({folder}) cannot be written: {error}", mend)
            else:
                mend = "set TMPDIR (on Windows TEMP) to a folder that can"
                yield Finding("wrong", f"{name} ({folder}) cannot be written: {error}", mend)
            continue
        if free < _LITTLE_GIB:
            yield Finding("note", text, "maps and products need room; delete something")
        else:
            yield Finding("ok", text)


def _write(folder: Path) -> None:
    """Write a file by mapping it into memory, as some libraries do.

    Raises:
        OSError: That cannot be done there.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE) as mapped:
            mapped[:4] = b"test"
            mapped.flush()
        file.seek(0)
        if file.read(4) != b"test":
            raise OSError("what was written is not what is read")
