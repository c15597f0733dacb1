"""Checks of PyTorch: that it loads, and whether it sees the GPU that is there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

from hsi_pipeline.commands.checks import Finding

_DRIVER = Path("/proc/driver/nvidia/version")
_LIMIT_S = 20
_LONGEST = 200
_ANEW = "pip install --force-reinstall torch torchvision"
_CHOOSE = "choose the right command at pytorch.org under 'Get started' and run it here"


def check_torch() -> Iterator[Finding]:
    """Load PyTorch, and look for a GPU."""
    try:
        import torch
    except Exception as error:  # a library that does not load raises anything
        yield Finding("wrong", f"PyTorch does not load: {_said(error)}; {_place('torch')}", _ANEW)
        return
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    driver = _nvidia_driver()
    with warnings.catch_warnings(record=True) as warned:  # why it sees none
        warnings.simplefilter("always")
        sees = torch.cuda.is_available()
    text = f"PyTorch {torch.__version__}, {build}"
    if sees:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("ok", f"{text}, sees {', '.join(names)}")
    elif driver is None:
        yield Finding("ok", f"{text}; no NVIDIA GPU here, so that the processor computes")
    elif torch.version.cuda is None:
        slow = f"{text}, though there is an NVIDIA GPU ({driver}): the processor computes"
        yield Finding("note", slow, f"for a build with CUDA {_CHOOSE}")
    else:
        said = str(warned[0].message).split("(")[0].strip() if warned else "it does not say why"
        wrong = f"{text}, sees no GPU, though there is one ({driver}): {said}"
        yield Finding(
            "wrong", wrong, f"update NVIDIA's driver; or, for a build of an older CUDA, {_CHOOSE}"
        )


def check_torchvision() -> Iterator[Finding]:
    """Look whether torchvision was built for this PyTorch."""
    try:
        import torch
    except Exception:  # said above
        return
    try:
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 1.0]), 0.5).tolist()
    except Exception as error:  # operators that are not there raise RuntimeError
        yield Finding("wrong", f"torchvision does not fit PyTorch: {_said(error)}", _ANEW)
        return
    if kept == [1]:
        yield Finding("ok", f"torchvision {torchvision.__version__} fits it")
    else:
        yield Finding("wrong", f"torchvision computes nonsense: {kept}", _ANEW)


def _nvidia_driver() -> str | None:
    """Return NVIDIA's driver, or the GPUs that it knows; None without one."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        try:
            answer = subprocess.run(
                [program, "--query-gpu=name,driver_version", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=_LIMIT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"nvidia-smi does not answer: {error}"
        if answer.returncode == 0 and answer.stdout.strip():
            return "; driver ".join(answer.stdout.splitlines()[0].rsplit(", ", 1))
    return _DRIVER.read_text(encoding="ascii").splitlines()[0] if _DRIVER.is_file() else None


def _place(name: str) -> str:
    """Say where a package is loaded from."""
    found = importlib.util.find_spec(name)
    return "it is not there" if found is None else f"it is in {found.origin}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]
