"""Run a workflow on the nodes of a SLURM cluster.

    python workflows/clusters/slurm.py archive.yaml --jobs 20 --cores 8 --memory 32GB \
        --queue standard --walltime 120

starts a Dask scheduler in this program, has SLURM start jobs that work for it, and says
`hsi-pipeline run archive.yaml --scheduler ADDRESS`. Options that are not listed by --help go to
`hsi-pipeline run`, such as --overwrite. Start it where it may run for hours: on a login node that
allows that, or in a small job of its own.

It needs `pip install dask-jobqueue`, and on every node
- the same environment at the same path: it is this program's Python that the jobs start;
- the same paths of scenes and results, on a shared file system; scenes may be at s3:// too.

Every core has a worker of its own with one thread and its share of the job's memory. So products
are the same however many there are, and as a worker holds one chunk at a time, what it needs does
not grow with the cores. A worker that exceeds its share is started again by Dask, and its chunk is
computed anew; after some times the run ends and names the step. Give jobs more --memory then, or
the workflow a smaller `classify.chunk` (`classify.memory` is for runs without a cluster).

Lost nodes and ended jobs cost only what was being computed there: other workers take over, and new
jobs are asked for. Workers leave by themselves when 9/10 of the walltime are over. If this program
itself was ended, start it again with the same words: the run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

HSI_PIPELINE = Path(sys.executable).with_name("hsi-pipeline")
LOOK_SECONDS = 20


def main() -> int:
    """Run the workflow; returns the exit code of hsi-pipeline."""
    options, passed_on = read_options()
    if shutil.which("sbatch") is None:
        return refuse("there is no sbatch here; start this on a node of a SLURM cluster")
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        return refuse("dask-jobqueue is missing; pip install dask-jobqueue")
    seconds = 60 * options.walltime
    with SLURMCluster(
        queue=options.queue,
        account=options.account,
        cores=options.cores,
        processes=options.cores,  # one thread in each
        memory=options.memory,
        walltime=options.walltime,
        interface=options.interface,
        local_directory=options.scratch,
        log_directory=options.logs,
        job_extra_directives=options.sbatch,
        job_script_prologue=[
            # some sites set another number: sums are then rounded otherwise
            "export OMP_NUM_THREADS=1",
            # takes seconds, and is done before there is work
            "export DASK_DISTRIBUTED__WORKER__PRELOAD=hsi_pipeline.commands.archive_scene",
            # else Dask has each layer of the network take its memory from the system anew
            "export DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON="
            "\"{'MALLOC_TRIM_THRESHOLD_': None}\"",
        ],
        worker_extra_args=[
            *("--lifetime", f"{0.9 * seconds:.0f}s"),
            *("--lifetime-stagger", f"{0.05 * seconds:.0f}s"),
        ],
        scheduler_options={"dashboard_address": options.dashboard},
    ) as cluster:
        asked = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(),
                               text=True, stderr=subprocess.PIPE, check=False)  # fmt: skip
        if asked.returncode:
            return refuse(" ".join(asked.stderr.split()))
        cluster.adapt(
            minimum_jobs=1 if options.adaptive else options.jobs, maximum_jobs=options.jobs
        )
        say(f"scheduler {cluster.scheduler_address}, dashboard {cluster.dashboard_link}")
        say("waiting for the first job, for as long as SLURM needs; see squeue")
        while not cluster.scheduler_info["workers"]:
            if ended := forget_ended_jobs(cluster):
                jobs = ", ".join(ended)
                return refuse(f"job {jobs} ended before it could work; see {options.logs}")
            time.sleep(1)
        run = subprocess.Popen(
            [HSI_PIPELINE, "run", options.workflow, "--scheduler", cluster.scheduler_address,
             *passed_on]
        )  # fmt: skip
        # Ctrl-C reaches it too, and it cleans up; jobs are cancelled after that
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: run.terminate())
        while True:
            try:
                return run.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                forget_ended_jobs(cluster)


def forget_ended_jobs(cluster: SLURMCluster) -> list[str]:
    """Have new jobs asked for in place of those that SLURM no longer lists; returns the latter.

    Dask-jobqueue 0.9 does so by itself only if a job has one worker.
    """
    jobs = {name: job.job_id for name, job in dict(cluster.workers).items()}
    squeue = ["squeue", "--me", "--noheader", "--format=%i"]
    listed = subprocess.run(squeue, capture_output=True, text=True, check=False)
    if listed.returncode:  # the controller is busy, which says nothing of the jobs
        return []
    ended = [name for name, job in jobs.items() if job and job not in listed.stdout.split()]
    for name in ended:
        cluster.workers.pop(name, None)
    return [jobs[name] for name in ended]


def read_options() -> tuple[argparse.Namespace, list[str]]:
    """Return this program's options, and those for `hsi-pipeline run`."""
    parser = argparse.ArgumentParser(
        description="Run a workflow on a SLURM cluster.",
        epilog="Further options go to hsi-pipeline run.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("workflow", help="workflow file, YAML")
    add("--jobs", type=int, default=1, help="SLURM jobs to keep running (%(default)s)")
    add("--adaptive", action="store_true", help="fewer jobs while there is less to do")
    add("--cores", type=int, default=8, help="cores, and workers, of a job (%(default)s)")
    add("--memory", default="32GB", help="memory of a job (%(default)s)")
    add("--walltime", type=int, default=60, help="minutes that a job may take (%(default)s)")
    add("--queue", help="partition; none: SLURM's default")
    add("--account", help="account to charge")
    add("--sbatch", action="append", default=[], metavar="OPTION",
        help="further option of sbatch, such as --sbatch=--exclusive; may be repeated")  # fmt: skip
    add("--interface", help="network interface that nodes and this program share, such as ib0")
    add("--scratch", help="folder on a disk of the node for what memory cannot hold")
    add("--logs", default="slurm-logs", help="folder for what jobs print (%(default)s)")
    add("--dashboard", default=":8787", help="address of the dashboard (%(default)s)")
    return parser.parse_known_args()


def refuse(text: str) -> int:
    """Say what is wrong; returns the exit code for that."""
    say(f"error: {text}")
    return 2


def say(text: str) -> None:
    """Tell what happens, beside results on standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
