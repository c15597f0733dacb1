"""Where Dask computes: threads of this process, or a running cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import dask
import torch
from dask.callbacks import Callback

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError

# One thread predicts with all cores while the other reads ahead or writes. Each holds a chunk: a
# third thread took another gigabyte and was no faster.
_THREADS = 2
_PACKAGES = ("hsi_pipeline", "torch", "numpy", "zarr", "dask", "distributed")
_CONNECT_TIMEOUT = "15s"
_SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")


@contextmanager
def computing(terminal: Terminal, label: str, scheduler: str | None) -> Iterator[None]:
    """Compute what the block computes, with progress.

    Args:
        terminal: Where to show progress.
        label: What is being done.
        scheduler: Address of a running Dask scheduler; None for threads of this process.

    Raises:
        InputError: No scheduler answers at the address, it is none, or its workers are of other
            versions.
    """
    if scheduler is None:
        with (
            ThreadPoolExecutor(_THREADS) as pool,
            dask.config.set(scheduler="threads", pool=pool),
            _TasksEnd(pool),
            terminal.dask_progress(label),
        ):
            yield
        return
    from distributed import Client  # half a second, and only clusters need it

    _check_address(scheduler)
    try:
        # Not as default: one that nobody answered would stay Dask's scheduler in this process.
        client = Client(scheduler, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except OSError as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler} within {_CONNECT_TIMEOUT}; start one with "
            "'dask scheduler', or leave out --scheduler"
        ) from error
    with client, dask.config.set(scheduler=client):
        workers = len(client.scheduler_info()["workers"])
        if not workers:
            raise InputError(f"the scheduler at {scheduler} has no workers; start 'dask worker'")
        _check_versions(client)
        terminal.say(f"{label}: {workers} workers, dashboard {client.dashboard_link}")
        yield


def _check_versions(client: Any) -> None:
    """Refuse workers that would compute something else, or fail with a riddle.

    Raises:
        InputError: Names the worker and the package.
    """
    versions = client.get_versions(packages=list(_PACKAGES))
    own = versions["client"]["packages"]
    for address, worker in versions["workers"].items():
        for name in _PACKAGES:
            found = worker["packages"].get(name)
            if found != own[name]:
                raise InputError(
                    f"the worker at {address} has {name} {found or 'not installed'}, this program "
                    f"{own[name]}; start the workers in the same environment"
                )


def _check_address(scheduler: str) -> None:
    """Refuse what is no address; Dask would say so only after half a minute, with a traceback."""
    parts = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
    try:
        fits = parts.scheme in _SCHEMES and parts.hostname and parts.port
    except ValueError:  # the port is no number
        fits = False
    if not fits:
        raise InputError(
            f"--scheduler {scheduler} is not the address of a Dask scheduler, such as "
            "tcp://127.0.0.1:8786"
        )


class _TasksEnd(Callback):
    """After an error or Ctrl-C, waits for running tasks before the error goes on.

    Dask leaves them running, and a task that writes would make files again in a folder that was
    just removed.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._thread = threading.get_ident()
        super().__init__()

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        # Reads nested in a task end here too, in a thread of the pool that cannot await itself.
        if errored and threading.get_ident() == self._thread:
            self._pool.shutdown(cancel_futures=True)


def choose_device(device: str) -> str:
    """Return the Torch device for an option.

    Args:
        device: "auto" takes a GPU if Torch sees one, else any Torch device name.

    Raises:
        InputError: The device is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "use --device cpu or auto"
        ) from error
    return device
