"""The network alone: number types and tile sizes, beside the matrix product of the same process.

    python benchmarks/inference/network.py [--model hyperloopnet] [--bands 224] [--threads 2]
        [--tiles 128 192 256 384 512] [--repeats 3]

For each tile, the window with its halo is predicted from raw int16 numbers, by the plain network
and by the prepared one, in turn with a large matrix product, and the best of the repeats counts.
GFLOP/s are those of convolutions and matrix products that are called for (3 x 3 ones need less by
Winograd's method, so that a share may exceed 1); "plain work" takes those of the plain network over
the whole window instead, of which the prepared one leaves out what only the halo needs. kpx/s are
pixels that are kept. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hsi_pipeline.models import build_model
from hsi_pipeline.models.prepared import Sides, prepare

CLASSES = 12
INNER = Sides(True, True, True, True)
SIDE = 2048  # of the matrix product


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="hyperloopnet")
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 192, 256, 384, 512])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build_model(arguments.model, arguments.bands, CLASSES).eval().to(arguments.device)
    model.band_mean.fill_(0.3)
    model.band_std.fill_(0.17)
    scale = torch.full((arguments.bands,), 1e-4, device=arguments.device)
    offset = torch.zeros_like(scale)
    print(
        f"{arguments.model}, halo {model.halo}, {arguments.bands} bands, {arguments.threads} "
        f"threads, PyTorch {torch.__version__}, {device_name(arguments.device)}\n\n"
        "| precision | tile | plain kpx/s | prepared kpx/s | ratio | prepared GFLOP/s "
        "| matrix product GFLOP/s | share | share, plain work |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for dtype in (torch.float32, torch.bfloat16):
        ready = prepare(model, scale, offset, dtype).to(arguments.device)
        square = torch.rand(SIDE, SIDE, device=arguments.device, dtype=dtype)
        for tile in arguments.tiles:
            side = tile + 2 * model.halo
            raw = torch.randint(0, 6000, (arguments.bands, side, side), dtype=torch.int16)
            raw = raw.to(arguments.device)
            jobs = {
                "plain": lambda raw=raw, dtype=dtype: plain(model, raw, dtype),
                "prepared": lambda raw=raw, ready=ready: ready(raw, None, INNER),
                "product": lambda square=square: square @ square,
            }
            seconds = best(jobs, arguments.repeats, arguments.device)
            work, plain_work = (
                flop(jobs[name]) / seconds["prepared"] / 1e9 for name in ("prepared", "plain")
            )
            product = 2 * SIDE**3 / seconds["product"] / 1e9
            kept = tile**2 / 1e3
            print(
                f"| {str(dtype).removeprefix('torch.')} | {tile} | {kept / seconds['plain']:.1f} | "
                f"{kept / seconds['prepared']:.1f} | "
                f"{seconds['plain'] / seconds['prepared']:.2f} | {work:.0f} | {product:.0f} | "
                f"{work / product:.2f} | {plain_work / product:.2f} |",
                flush=True,
            )


def plain(model: nn.Module, raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Run the network as it is trained: reflectance first."""
    x = raw.movedim(0, -1).float().contiguous().movedim(-1, 0).mul_(1e-4)
    with torch.autocast(raw.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return model(x[None])[0]


@torch.inference_mode()
def best(jobs: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Return each job's shortest time; they take turns, so that noise meets all alike."""
    seconds = dict.fromkeys(jobs, float("inf"))
    for turn in range(repeats + 1):  # the first one warms up
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


@torch.inference_mode()
def flop(job: Callable[[], object]) -> int:
    """Return the work of a job's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops()


def device_name(device: str) -> str:
    """Return what the device calls itself."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return names[0] if names else "processor"


if __name__ == "__main__":
    main()
