"""The most memory that this process has held; needs the standard library alone."""

from pathlib import Path


def peak_gb() -> float:
    """Return the peak of resident memory in GB, from Linux.

    Not `getrusage`, whose figure a process takes over from the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6
