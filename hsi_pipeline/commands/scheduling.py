"""Where Dask computes: threads of this process, or a running cluster."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import dask
import dask.threaded
import torch

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError

_PACKAGES = ("hsi_pipeline", "torch", "numpy", "zarr", "dask", "distributed")
_CONNECT_TIMEOUT = "15s"
_SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")


@contextmanager
def computing(
    terminal: Terminal,
    label: str,
    scheduler: str | None,
    *,
    bar: bool = True,
    threads: int = 2,
) -> Iterator[Executor | None]:
    """Compute what the block computes.

    Args:
        terminal: Where to show progress.
        label: What is being done.
        scheduler: Address of a running Dask scheduler; None for threads of this process.
        bar: Show how many tasks are done; not of a cluster, which has a dashboard.
        threads: Of this process. One waits for the network, the other reads ahead or writes; each
            holds a chunk, and a third one was no faster on a processor.

    Yields:
        The cluster as an executor, for work that is no Dask graph; None in this process.

    Raises:
        InputError: No scheduler answers at the address, it is none, or its workers are of other
            versions.
    """
    if scheduler is None:
        with (
            dask.config.set(scheduler=partial(_compute_in_threads, threads)),
            terminal.dask_progress(label) if bar else nullcontext(),
        ):
            yield None
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
    with client, dask.config.set(scheduler=client), warnings.catch_warnings():
        # a kilobyte for each chunk: nothing that could be sent otherwise
        warnings.filterwarnings("ignore", "Sending large graph")
        workers = len(client.scheduler_info()["workers"])
        if not workers:
            raise InputError(f"the scheduler at {scheduler} has no workers; start 'dask worker'")
        _check_versions(client)
        terminal.say(f"{label}: {workers} workers, dashboard {client.dashboard_link}")
        yield client.get_executor(pure=False)


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


def _compute_in_threads(threads: int, graph: Any, keys: Any, **options: Any) -> Any:
    """Compute in threads of this process, and come back, whatever happens, when they are idle.

    After an error or Ctrl-C Dask alone leaves running tasks be, and one that writes would make
    files again in a folder that was just removed.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        return dask.threaded.get(graph, keys, **{**options, "pool": pool})
    finally:
        pool.shutdown(cancel_futures=True)


def choose_device(device: str, scheduler: str | None = None) -> str:
    """Return the Torch device for an option.

    Args:
        device: "auto" takes a GPU if Torch sees one, else any Torch device name.
        scheduler: Address of the cluster that computes; a device that is named need not be here.

    Raises:
        InputError: The device is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if scheduler is not None:
            return str(torch.device(device))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}); "
            "use --device cpu or auto"
        ) from error
    return device
