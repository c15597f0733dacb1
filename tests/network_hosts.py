"""Dask clusters of programs of their own: on loopback, or on several hosts that are on one machine.

Each host is a network namespace with an address of its own (10.213.x.y), and so is the client: what
listens on loopback on one host cannot be reached from another. Hosts share files, as the nodes of
a cluster share a file system. The machine's own network is not touched.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from postgis_server import free_port

HSI_PIPELINE = str(Path(sys.executable).with_name("hsi-pipeline"))
_DASK = (sys.executable, "-m", "dask")
_START_SECONDS = 60
_numbers = itertools.count()


@dataclass(frozen=True)
class Host:
    """A place where programs run."""

    address: str
    enter: tuple[str, ...] = ()
    """Put before a command it runs there."""

    def run(self, command: Sequence[object], **options) -> subprocess.CompletedProcess[str]:
        """Run a command there; options as of `subprocess.run`."""
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        return subprocess.run([*self.enter, *map(str, command)], **options)

    @contextmanager
    def running(self, command: Sequence[object], log: Path, **variables: str) -> Iterator[int]:
        """Run a program there until the block ends; what it started ends with it. Yields its id."""
        with log.open("a") as stream:
            process = subprocess.Popen(
                [*self.enter, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                env=os.environ | variables, start_new_session=True,
            )  # fmt: skip
        try:
            yield process.pid
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class DaskCluster:
    """A scheduler with its workers, and a place from which clients reach it."""

    scheduler: str
    """Address, tcp://HOST:PORT."""
    dashboard: str
    """Address of the scheduler's web pages, http://HOST:PORT."""
    client: Host
    """From here the cluster can be reached."""
    workers: tuple[int, ...]
    """Ids of the processes of `dask worker`; each has a further one that computes."""
    folder: Path
    """Holds what each program printed, *.log."""

    def run(self, command: Sequence[object], **options) -> subprocess.CompletedProcess[str]:
        """Run a command where the cluster can be reached; options as of `subprocess.run`."""
        return self.client.run(command, **options)


def missing() -> str | None:
    """Return why there can be no hosts here, or None."""
    if shutil.which("ip") is None:
        return "there is no program ip (Debian: iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    try:
        with network(["probe"]):
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here ({error.stderr.strip()})"


@contextmanager
def network(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Make hosts that are joined by a switch, until the block ends; yields them by name."""
    mark = f"hsi{os.getpid()}-{next(_numbers)}"  # unique on this machine
    switch = f"{mark}-switch"
    hosts = {
        name: Host(
            f"10.213.{os.getpid() % 254 + 1}.{number}",
            ("ip", "netns", "exec", f"{mark}-{name}"),
        )
        for number, name in enumerate(names, start=1)
    }
    with ExitStack() as stack:
        for space in (switch, *(host.enter[-1] for host in hosts.values())):
            _ip("netns", "add", space)
            stack.callback(_delete, space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts.values()):
            space, port = host.enter[-1], f"port{number}"
            # both ends are made inside namespaces: the machine's own network never has them
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0",
                "netns", space)  # fmt: skip
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
        yield hosts


@contextmanager
def dask_hosts(count: int = 2, *, folder: Path) -> Iterator[DaskCluster]:
    """Start a scheduler and workers of one thread, each on a host of its own, until the block ends.

    Args:
        count: Workers.
        folder: Where the programs work and log.
    """
    names = [f"worker{number}" for number in range(count)]
    with network(["client", "scheduler", *names]) as hosts:
        client, scheduler, *workers = hosts.values()
        with _dask(scheduler, workers, client, folder, port=8786, dashboard=8787) as cluster:
            yield cluster


@contextmanager
def loopback_cluster(workers: int = 2, *, folder: Path) -> Iterator[DaskCluster]:
    """Start a scheduler and workers of one thread on loopback, until the block ends.

    Args:
        workers: How many.
        folder: Where the programs work and log.
    """
    here = Host("127.0.0.1")
    ports = {"port": free_port(), "dashboard": free_port()}
    with _dask(here, [here] * workers, here, folder, **ports) as cluster:
        yield cluster


def wait_for_workers(client: Host, scheduler: str, count: int, logs: Path) -> None:
    """Wait until workers have joined; what the programs printed tells why they do not."""
    code = (
        f"from distributed import Client; Client({scheduler!r}, timeout={_START_SECONDS})"
        f".wait_for_workers({count}, timeout={_START_SECONDS})"
    )
    waited = client.run([sys.executable, "-c", code])
    printed = {path.name: path.read_text()[-2000:] for path in sorted(logs.glob("*.log"))}
    assert waited.returncode == 0, (waited.stderr[-2000:], printed)


@contextmanager
def _dask(
    scheduler: Host, workers: list[Host], client: Host, folder: Path, *, port: int, dashboard: int
) -> Iterator[DaskCluster]:
    folder.mkdir(parents=True, exist_ok=True)
    address = f"tcp://{scheduler.address}:{port}"
    with ExitStack() as stack:
        stack.enter_context(
            scheduler.running(
                [*_DASK, "scheduler", "--host", scheduler.address, "--port", port,
                 "--dashboard-address", f"{scheduler.address}:{dashboard}"],
                folder / "scheduler.log",
            )
        )  # fmt: skip
        pids = [
            stack.enter_context(
                host.running(
                    [*_DASK, "worker", address, "--host", host.address, "--nthreads", 1,
                     "--name", f"worker{number}", "--dashboard-address", f"{host.address}:0",
                     "--death-timeout", _START_SECONDS, "--local-directory", folder / "scratch"],
                    folder / f"worker{number}.log",
                    OMP_NUM_THREADS="1",
                )
            )
            for number, host in enumerate(workers)
        ]  # fmt: skip
        wait_for_workers(client, address, len(workers), folder)
        pages = f"http://{scheduler.address}:{dashboard}"
        yield DaskCluster(address, pages, client, tuple(pids), folder)


def _delete(space: str) -> None:
    """Remove a namespace, and whatever still runs in it."""
    for pid in _ip("netns", "pids", space).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", space)


def _ip(*arguments: str) -> str:
    result = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return result.stdout
