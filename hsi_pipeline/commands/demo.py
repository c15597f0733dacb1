"""The sample scene to a map, polygons and a report, in a folder that stands for itself."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import hsi_pipeline
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError

WORKFLOW = "landcover.yaml"
_SAMPLE = ("scene.tif", "train.gpkg", "test.gpkg", "classes.csv")
RESULTS = (
    "report.html", "report.json", "map.tif", "map.zarr", "landcover.gpkg", "model.safetensors",
    "accuracy.json", "assessment.json", "item.json",
)  # fmt: skip
"""What the workflow writes, but for what belongs to one of these, such as styles."""
_INPUT = "input"  # folder of the sample in that of the results
_NEXT = """\
look at report.html first: maps, accuracy and areas, in a browser
map.tif and landcover.gpkg open styled in QGIS; {input} has the scene and its polygons
{workflow} is what was run; with your own scene and polygons:
  hsi-pipeline info scene.tif
  hsi-pipeline train scene.tif polygons.gpkg --label-column class_id --out model.safetensors
  hsi-pipeline classify scene.tif model.safetensors --out map.tif"""


def demo(
    out: str | os.PathLike[str], *, overwrite: bool = False, terminal: Terminal | None = None
) -> list[Path]:
    """Run the workflow of the sample scene, anywhere.

    The sample is copied, so that nothing that opens it writes into the installation, and the folder
    can be given to others.

    Args:
        out: Folder of the results; made if missing.
        overwrite: Replace results of an earlier run.
        terminal: Where to report.

    Returns:
        The files written, without those of the sample.

    Raises:
        InputError: There are results already, the folder cannot be written, or the installation
            lacks the sample.
    """
    terminal = terminal or Terminal(quiet=True)
    folder = Path(out)
    there = [name for name in RESULTS if (folder / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{folder} holds files that the demo writes ({', '.join(there)}), of an earlier run or "
            "your own; --out FOLDER keeps them, --overwrite replaces them"
        )
    workflow = _copy_sample(folder, overwrite=overwrite)

    from hsi_pipeline.commands.run import run  # seconds, which a refusal need not wait for

    terminal.say(f"the sample scene, and {workflow}: a minute on two free cores")
    written = run(workflow, overwrite=overwrite, terminal=terminal)
    terminal.say(_NEXT.format(input=folder / _INPUT, workflow=workflow))
    return written


def sample_file(name: str) -> Path:
    """Return a file of the sample, `scene.tif` or `workflows/landcover.yaml`, say.

    Wheels have them inside the package, a checkout beside it.

    Raises:
        InputError: The installation lacks it.
    """
    package = Path(hsi_pipeline.__file__).parent
    for root in (package, package.parent):
        if (file := root / name).is_file():
            return file
    raise InputError(
        f"{name} of the sample is not in this installation ({package}); install it again"
    )


def _copy_sample(folder: Path, *, overwrite: bool) -> Path:
    """Copy the sample and its workflow into a folder, and return the copy of the workflow.

    Raises:
        InputError: The folder cannot be written, or holds other files of these names.
    """
    text = sample_file(f"workflows/{WORKFLOW}").read_text(encoding="utf-8")
    for there, here in (("../sample_data/", f"{_INPUT}/"), ("../results/sample", ".")):
        text = text.replace(there, here)
    text = text.replace(f"workflows/{WORKFLOW}", WORKFLOW)
    contents = {f"{_INPUT}/{n}": sample_file(f"sample_data/{n}").read_bytes() for n in _SAMPLE}
    contents[WORKFLOW] = text.encode()
    try:
        for name, content in contents.items():
            _write(folder / name, content, overwrite=overwrite)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); give another folder by --out"
        ) from error
    return folder / WORKFLOW


def _write(target: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a file, which appears when it is complete; one with the same content stays."""
    if target.exists():
        if target.read_bytes() == content:
            return
        if not overwrite:
            raise InputError(f"{target} exists and is another file; --overwrite replaces it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(content)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
