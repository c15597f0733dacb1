"""Run a workflow on all GPUs of this machine: one Dask worker for each.

    python workflows/clusters/gpus.py archive.yaml

starts a Dask scheduler and a worker for each GPU, and says
`hsi-pipeline run archive.yaml --scheduler ADDRESS`; options that are not listed by --help go there,
such as --overwrite. CUDA_VISIBLE_DEVICES chooses GPUs, as always.

It needs `pip install 'hsi-pipeline[gpu]'`. Dask-CUDA brings the one version of Dask that it works
with, so leave this project's constraints.txt out. Without Dask-CUDA the same is

    dask scheduler &
    CUDA_VISIBLE_DEVICES=0 dask worker tcp://127.0.0.1:8786 --nthreads 1 &
    CUDA_VISIBLE_DEVICES=1 dask worker tcp://127.0.0.1:8786 --nthreads 1 &
    hsi-pipeline run archive.yaml --scheduler tcp://127.0.0.1:8786

Each worker has one thread, and so one chunk on its GPU at a time. A worker that is lost is started
again, and its chunk computed anew.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import torch

HSI_PIPELINE = Path(sys.executable).with_name("hsi-pipeline")


def main() -> int:
    """Run the workflow; returns the exit code of hsi-pipeline."""
    parser = argparse.ArgumentParser(
        description="Run a workflow on all GPUs of this machine.",
        epilog="Further options go to hsi-pipeline run.",
        allow_abbrev=False,
    )
    parser.add_argument("workflow", help="workflow file, YAML")
    parser.add_argument("--dashboard", default=":8787", help="its address (%(default)s)")
    options, passed_on = parser.parse_known_args()
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        return refuse(f"Dask-CUDA cannot be used ({error}); pip install 'hsi-pipeline[gpu]'")
    if not torch.cuda.is_available():
        return refuse("Torch sees no GPU here; hsi-pipeline run without this program needs none")
    with LocalCUDACluster(dashboard_address=options.dashboard) as cluster:
        print(f"dashboard {cluster.dashboard_link}", file=sys.stderr, flush=True)
        run = subprocess.Popen(
            [HSI_PIPELINE, "run", options.workflow, "--scheduler", cluster.scheduler_address,
             *passed_on]
        )  # fmt: skip
        # Ctrl-C reaches it too, and it cleans up; workers are ended after that
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: run.terminate())
        return run.wait()


def refuse(text: str) -> int:
    """Say what is wrong; returns the exit code for that."""
    print(f"error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
