"""A report of a class map: one HTML file that holds all it shows, and its numbers as JSON.

For people who would rather look than read. The page asks no server for anything: pictures,
Leaflet and its own program are inside, and its policy forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from hsi_pipeline import __version__
from hsi_pipeline.errors import InputError
from hsi_pipeline.figures import as_png
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.publish.report.content import ClassSpectra as ClassSpectra
from hsi_pipeline.publish.report.content import FileFacts as FileFacts
from hsi_pipeline.publish.report.content import Picture as Picture
from hsi_pipeline.publish.report.content import Report as Report
from hsi_pipeline.publish.report.elements import as_html
from hsi_pipeline.publish.report.map_section import as_json, map_data, outlines_of, stills_of
from hsi_pipeline.publish.report.numbers import FORMAT, numbers_of
from hsi_pipeline.publish.report.page import page_of
from hsi_pipeline.publish.report.paper import FIGURE_NAMES, paper_figures

_HERE = files(__package__)
_RESOURCE = re.compile(r"url\((?!\"?data:)[^)]*\)")


def check_report_target(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a report that cannot be written, before hours of work.

    Raises:
        InputError: As `publish.check_target`; the JSON file beside it is another program's.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=(".html",))
    numbers = path.with_suffix(".json")
    check_target(numbers, overwrite=overwrite, suffixes=(".json",))
    if numbers.exists() and not _is_ours(numbers):
        raise InputError(
            f"{numbers} exists and holds no numbers of a report; give {path.name} another name"
        )


def write_report(
    path: str | os.PathLike[str], report: Report, *, overwrite: bool = False
) -> list[Path]:
    """Write a report and its numbers.

    Args:
        path: Target, `.html`. The numbers go to a `.json` of the same stem beside it.
        report: What it shows.
        overwrite: Replace an existing report.

    Returns:
        Both files, the report first.

    Raises:
        InputError: As `check_report_target`.
    """
    path = Path(path)
    check_report_target(path, overwrite=overwrite)
    page = html_of(report)
    numbers = json.dumps(numbers_of(report), indent=1, ensure_ascii=False, allow_nan=False)
    with staged(path) as target:
        target.write_text(page, encoding="utf-8")
        target.with_suffix(".json").write_text(numbers + "\n", encoding="utf-8", errors="replace")
    return [path, path.with_suffix(".json")]


def html_of(report: Report) -> str:
    """Return the page of a report."""
    stills = stills_of(report)
    outlines = outlines_of(report, stills)
    body = "\n".join(map(as_html, page_of(report, stills, outlines)))
    licence = _text("vendor/LICENSE").replace("*/", "* /")
    library = f"/*\n{licence}*/\n" + re.sub(
        r"\n//# sourceMappingURL=.*", "", _text("vendor/leaflet.js")
    )
    script = _text("report.js")
    # rules of markers and layer lists, which this page has not, name pictures
    style = _RESOURCE.sub("none", _text("vendor/leaflet.css")) + _text("report.css")
    return Template(_text("template.html")).substitute(
        policy=_policy(library, script),
        generator=f"hsi_pipeline {__version__}",
        title=html.escape(report.title),
        style=style,
        body=body,
        data=as_json(map_data(report, outlines)),
        library=library,
        script=script,
    )


def check_figures_folder(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a folder that figures cannot be written to.

    Args:
        folder: The folder; it need not exist, its parent must.
        overwrite: Replace existing figures.

    Raises:
        InputError: It is a file, or holds such figures already.
    """
    folder = Path(folder)
    if not folder.exists():
        check_target(folder.with_suffix(".png"), overwrite=True, suffixes=(".png",))
    elif not folder.is_dir():
        raise InputError(f"{folder} is a file; --figures needs a folder, give another name")
    else:
        for name in FIGURE_NAMES:
            check_target(folder / f"{name}.png", overwrite=overwrite, suffixes=(".png",))


def write_figures(
    folder: str | os.PathLike[str], report: Report, *, overwrite: bool = False
) -> list[Path]:
    """Write the figures of a report as PNG, 300 dots an inch.

    Args:
        folder: Folder, which is made if need be.
        report: What they show.
        overwrite: Replace existing figures.

    Returns:
        The files.

    Raises:
        InputError: As `check_figures_folder`.
    """
    folder = Path(folder)
    check_figures_folder(folder, overwrite=overwrite)
    folder.mkdir(exist_ok=True)
    figures = paper_figures(report)
    with staged(folder / "map.png") as target:
        for name, draw in figures.items():
            target.with_stem(name).write_bytes(as_png(draw()))
    return [folder / f"{name}.png" for name in figures]


def older_figures(folder: str | os.PathLike[str], drawn: Sequence[Path]) -> list[Path]:
    """Return figures in a folder that an earlier report left, and the last one did not draw."""
    files = (Path(folder) / f"{name}.png" for name in FIGURE_NAMES)
    return [file for file in files if file.exists() and file not in drawn]


def _policy(*scripts: str) -> str:
    """Return the rules of the page: no network, and no program but its own two."""
    sums = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in sums)
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def _text(name: str) -> str:
    return _HERE.joinpath(name).read_text(encoding="utf-8")


def _is_ours(numbers: Path) -> bool:
    try:
        return json.loads(numbers.read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False
