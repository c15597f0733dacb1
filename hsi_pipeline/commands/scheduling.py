"""Where Dask computes: threads of this process, or a running cluster."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import dask
import dask.threaded
import psutil
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import one_line

_PACKAGES = ("hsi_pipeline", "torch", "numpy", "zarr", "dask", "distributed")
_CONNECT_TIMEOUT = "15s"
_WORKER_BYTES = 2 * 2**30  # that a worker of its own may need
_DASHBOARD_PORT = 8787
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
            dask.config.set(scheduler=partial(compute_in_threads, threads)),
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


@contextmanager
def cluster(
    terminal: Terminal, scheduler: str | None, workers: int | None, *, imports: str
) -> Iterator[Any]:
    """Give a client of a Dask cluster: one of this machine, or a running one.

    Args:
        terminal: Where to say where its dashboard is.
        scheduler: Address of a running Dask scheduler; None starts workers on this machine.
        workers: Processes to start, each for one core; 0 for a worker in this process, whose
            threads use all cores. None: as many as cores and memory allow.
        imports: Module that workers started here import before they get work.

    Yields:
        A `distributed.Client`.

    Raises:
        InputError: As `computing`; or both are given.
    """
    from distributed import Client, LocalCluster

    if scheduler is not None:
        if workers is not None:
            raise InputError("give --scheduler or --workers, not both: a cluster has its own")
        with computing(terminal, "archive", scheduler):
            pass  # it answers, and has workers of our version
        # what it logs of a lost scheduler, we say
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        with Client(scheduler, timeout=_CONNECT_TIMEOUT, set_as_default=False) as client:
            terminal.say(f"metrics {_metrics(client.dashboard_link)}")
            yield client
        return
    count = workers_here() if workers is None else workers
    with ExitStack() as stack:
        # Dask has workers give every large piece of memory back to the system at once, to take it
        # anew for the next layer of a network, which then takes nearly twice as long.
        key = "distributed.nanny.pre-spawn-environ"
        environment = {**dask.config.get(key), "MALLOC_TRIM_THRESHOLD_": None}
        stack.enter_context(dask.config.set({key: environment}))
        try:
            local = LocalCluster(
                n_workers=max(count, 1),
                threads_per_worker=1,
                processes=count > 0,
                dashboard_address=f"127.0.0.1:{_dashboard_port()}",
                silence_logs=logging.CRITICAL,
                preload=[imports],
            )
        except RuntimeError as error:
            raise InputError(
                f"{count} workers cannot be started here ({one_line(error)}); a script of your own "
                'starts them below `if __name__ == "__main__":`; --workers 0 computes in this '
                "process"
            ) from error
        client = stack.enter_context(Client(stack.enter_context(local), set_as_default=False))
        kind = f"{count} workers" if count else "a worker in this process"
        # as it is bound; Dask's own link names the machine's outer address where it is in-process
        board = f"http://127.0.0.1:{client.scheduler_info()['services']['dashboard']}/status"
        terminal.say(f"{kind}, dashboard {board}, metrics {_metrics(board)}")
        yield client


def _dashboard_port() -> int:
    """Return Dask's usual port, or 0 for any where it is taken, of which Dask itself would warn."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", _DASHBOARD_PORT))
        except OSError:
            return 0
    return _DASHBOARD_PORT


def cores() -> int:
    """Return the cores that this process may use; two threads of one count as one."""
    return min(CPU_COUNT, psutil.cpu_count(logical=False) or CPU_COUNT)


def workers_here() -> int:
    """Return how many workers this machine has room for: cores, and memory."""
    return max(min(cores(), psutil.virtual_memory().total // _WORKER_BYTES), 1)


def _metrics(dashboard: str) -> str:
    return dashboard.replace("/status", "/metrics")


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


def compute_in_threads(threads: int, graph: Any, keys: Any, **options: Any) -> Any:
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
    import torch  # seconds, which only networks need

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


def check_memory(memory: str | None, chunk: int | None, scheduler: str | None) -> None:
    """Refuse a memory that cannot decide on the chunk.

    Raises:
        InputError: It is no size, or something else decides.
    """
    if memory is None:
        return
    if chunk is not None:
        raise InputError("give --chunk or --memory, not both: the memory decides on the chunk")
    if scheduler is not None:
        raise InputError(
            "--memory is that of this process, and with --scheduler it only waits; give --chunk, "
            "and start the workers with a --memory-limit"
        )
    try:
        parse_bytes(memory)
    except ValueError as error:
        raise InputError(f"--memory {memory} is no size such as 4GB or 2500MiB") from error
