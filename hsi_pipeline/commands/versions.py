"""Which versions are at work here, for bug reports; torch is not imported for it."""

from __future__ import annotations

import ast
import ctypes
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from hsi_pipeline import __version__

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def describe_versions() -> list[str]:
    """Return a line each on this package, Python, torch, GDAL and the GPU.

    The first is "hsi-pipeline" and the version, and nothing else. What is missing or broken is
    said in its line.
    """
    return [
        f"hsi-pipeline {__version__}",
        f"Python {platform.python_version()} in {sys.prefix}, {platform.platform()}",
        _torch(),
        _gdal("rasterio"),
        _gdal("pyogrio"),
        _gpu(),
    ]


def _torch() -> str:
    """Return torch's version and the CUDA that it was built for, by its own file of versions."""
    try:
        found = version("torch")
    except PackageNotFoundError:
        return "torch is not installed"
    facts = _torch_facts()
    for kind, name in (("cuda", "CUDA"), ("hip", "ROCm"), ("xpu", "XPU")):
        if facts.get(kind):
            return f"torch {facts.get('__version__', found)}, built for {name} {facts[kind]}"
    known = "built for processors alone" if facts else "of which no more can be read"
    return f"torch {facts.get('__version__', found)}, {known}"


def _torch_facts() -> dict[str, str]:
    """Return what torch/version.py assigns; {} where it cannot be read."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        statements = ast.parse(text).body
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    facts = {}
    for statement in statements:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        target = statement.target if isinstance(statement, ast.AnnAssign) else target
        value = getattr(statement, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            facts[target.id] = str(value.value or "")
    return facts


def _gdal(package: str) -> str:
    """Return the GDAL that a package brings or was built with."""
    try:
        module = import_module(package)
        found = module.__gdal_version__
    except (ImportError, OSError, AttributeError) as error:
        return f"{package} cannot be imported ({' '.join(str(error).split())})"
    number = found if isinstance(found, str) else ".".join(map(str, found))
    return f"GDAL {number} of {package} {module.__version__}"


def _gpu() -> str:
    """Return which NVIDIA GPUs the driver offers to this process, asked without torch."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return "no NVIDIA driver"
    count, cuda = ctypes.c_int(), ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failed or not count.value:
        return f"NVIDIA driver without a GPU (CUDA error {failed})"
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    names = []
    for number in range(count.value):
        device, name_of = ctypes.c_int(), ctypes.create_string_buffer(100)
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDeviceGetName(name_of, len(name_of), device)
        names.append(name_of.value.decode(errors="replace"))
    most = f"{cuda.value // 1000}.{cuda.value % 1000 // 10}"
    return f"GPU {', '.join(names)}; driver for CUDA up to {most}"
