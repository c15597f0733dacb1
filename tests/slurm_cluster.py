"""A private SLURM cluster of one node for tests: munged, slurmctld and slurmd without systemd."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from postgis_server import free_port

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo", "squeue")
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# no cgroups, which containers may not have
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A cluster with the partition `short`, for programs that have its variables."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment of programs that are to use it."""
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _PATH}

    def run(self, *command: str) -> str:
        """Run one of SLURM's programs and return what it prints."""
        return subprocess.run(
            command, env=self.variables, check=True, capture_output=True, text=True, timeout=30
        ).stdout

    def jobs(self) -> list[str]:
        """Return the numbers of jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%i").split()


def missing() -> str | None:
    """Return why there can be no cluster here, or None."""
    absent = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if absent:
        names = ", ".join(absent)
        return f"{names} not installed (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "only root may start slurmd"
    return None


@contextmanager
def slurm_cluster(cpus: int = 2, memory_mb: int = 4000) -> Iterator[SlurmCluster]:
    """Start a cluster of one node, this machine, until the block ends; its jobs end with it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: names of sockets end at 107 bytes
    folder.chmod(0o755)  # munged and jobs refuse others
    cluster = SlurmCluster(folder)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(
            _SETTINGS.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                user=getpass.getuser(),
                controller_port=free_port(),
                node_port=free_port(),
                cpus=cpus,
                memory_mb=memory_mb,
            )
        )
        key = folder / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        start = lambda *command: stack.enter_context(_running(cluster, command))  # noqa: E731
        start("munged", "--foreground", "--force", f"--socket={folder / 'munge.socket'}",
              f"--key-file={key}", f"--pid-file={folder / 'munged.pid'}",
              f"--seed-file={folder / 'seed'}", f"--log-file={folder / 'munged.log'}")  # fmt: skip
        _until(cluster, lambda: (folder / "munge.socket").exists())
        start("slurmctld", "-D")
        start("slurmd", "-D")
        stack.callback(_cancel_all, cluster)
        _until(cluster, lambda: cluster.run("sinfo", "--noheader", "--format=%T").strip() == "idle")
        yield cluster


def _cancel_all(cluster: SlurmCluster) -> None:
    """Cancel what a test left running, and wait for its end: nobody else would end it."""
    for job in cluster.jobs():
        with suppress(subprocess.CalledProcessError):  # it has just ended
            cluster.run("scancel", job)
    _until(cluster, lambda: not cluster.jobs())


@contextmanager
def _running(cluster: SlurmCluster, command: tuple[str, ...]) -> Iterator[None]:
    program = shutil.which(command[0], path=_PATH)
    assert program is not None
    with (cluster.folder / f"{command[0]}.out").open("a") as stream:
        process = subprocess.Popen(
            [program, *command[1:]], env=cluster.variables,
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(cluster: SlurmCluster, is_so, seconds: float = 30) -> None:
    """Wait for something; what the programs printed tells why it does not come."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with suppress(subprocess.CalledProcessError):  # nobody answers yet
            if is_so():
                return
        time.sleep(0.1)
    printed = {file.name: file.read_text()[-2000:] for file in cluster.folder.glob("*.out")}
    raise AssertionError(f"SLURM did not come up, or did not end its jobs: {printed}")
