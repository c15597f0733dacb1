"""Workflow file (YAML) to checked settings."""

from __future__ import annotations

import datetime
import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from hsi_pipeline.errors import InputError, did_you_mean

_FOLDER = "folder"


def _placed(path: Path, info: ValidationInfo) -> Path:
    """Take a relative path from the workflow's folder."""
    return _folder(info) / path


def _placed_unless_remote(name: str, info: ValidationInfo) -> str:
    """Take a relative path from the workflow's folder; leave addresses as they are."""
    return name if "://" in name else os.path.join(_folder(info), name)


def _folder(info: ValidationInfo) -> Path:
    return (info.context or {}).get(_FOLDER, Path())


def _listed(value: object) -> object:
    """Take one format for a list of one, and one that is named twice once."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(dict.fromkeys(value))
    return [value] if isinstance(value, str) else value


def _filled(value: object) -> object:
    """Take `classify:` with nothing below it for a section of defaults."""
    return {} if value is None else value


def _as_text(value: object) -> object:
    """Take what YAML reads as a date or a year for the text that it was."""
    return str(value) if isinstance(value, datetime.date | int) else value


_Path = Annotated[Path, AfterValidator(_placed)]
_Address = Annotated[str, AfterValidator(_placed_unless_remote)]
_Pixels = Annotated[int, Field(ge=1)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    """A part of a workflow: fixed keys, nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Labels(_Section):
    """Where labels are and how to read them; as the options of `train`."""

    path: _Address
    label_column: str | None = None
    name_column: str | None = None
    class_table: _Path | None = None
    split_column: str | None = None
    layer: str | None = None
    where: str | None = None


class Also(_Section):
    """A further scene to learn from."""

    scene: _Address
    labels: _Address | None = None
    """Its labels; none: those of the first scene, where one file holds both."""


class Train(_Section):
    """How to train; as the options of `train`."""

    labels: Labels
    also: list[Also] = Field(default_factory=list)
    wavelengths: str | None = None
    band_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    model: str = "hyperloopnet-fusion"
    settings: dict[str, Any] = Field(default_factory=dict)
    epochs: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    guard: Annotated[int, Field(ge=0)] | None = None
    tolerance_nm: _NotNegative = 5.0


class Evaluate(_Section):
    """What to compare with."""

    labels: Labels


class Classify(_Section):
    """How to map; as the options of `classify`."""

    formats: Annotated[
        list[Literal["zarr", "tif"]], BeforeValidator(_listed), Field(min_length=1)
    ] = ["zarr"]
    chunk: _Pixels | None = None
    memory: str | None = None
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    probabilities: bool = False
    layers: Annotated[
        list[Literal["entropy", "margin", "dissimilarity"]], BeforeValidator(_listed)
    ] = Field(default_factory=list)
    tolerance_nm: _NotNegative | None = None
    resampling: Literal["auto", "nearest", "linear", "gaussian"] = "auto"
    fill_missing: Literal["error", "interpolate", "mean"] = "error"
    skip_failed: bool = False


class Polygonize(_Section):
    """How to make polygons; as the options of `polygonize`."""

    formats: Annotated[
        list[Literal["gpkg", "parquet", "fgb", "geojson", "shp"]],
        BeforeValidator(_listed),
        Field(min_length=1),
    ] = ["gpkg"]
    min_area: _NotNegative = 0.0
    join: Literal["border", "probability"] = "border"
    connectivity: Literal[4, 8] = 4
    simplify: _NotNegative = 0.0
    smooth: bool = False
    chunk: _Pixels | None = None
    by: _Address | None = None
    """Polygons of the user's own; what the map says of them is written too."""
    by_layer: str | None = None


class Assess(_Section):
    """By which reference the map is assessed; as the options of `assess`."""

    labels: Labels
    design: Literal["auto", "stratified", "simple", "none"] = "auto"
    strata: _Path | None = None
    merge: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)


class Report(_Section):
    """How to report; as the options of `report`."""

    title: str | None = None
    figures: bool = False
    """Whether figures for papers are written too, to the folder `figures`."""


class Workflow(_Section):
    """All of a workflow; a step whose section is missing is left out."""

    scene: _Address
    out: _Path
    """Folder of the results; made if missing."""
    model: _Path | None = None
    """A trained model, instead of the section `train`."""
    mask: str = "default"
    """Flags of the product's quality layers that become nodata."""
    pixel_coordinates: bool = False
    device: str = "auto"
    train: Annotated[Train | None, BeforeValidator(_filled)] = None
    evaluate: Annotated[Evaluate | None, BeforeValidator(_filled)] = None
    classify: Annotated[Classify | None, BeforeValidator(_filled)] = None
    assess: Annotated[Assess | None, BeforeValidator(_filled)] = None
    polygonize: Annotated[Polygonize | None, BeforeValidator(_filled)] = None
    report: Annotated[Report | None, BeforeValidator(_filled)] = None


class Scenes(_Section):
    """Which scenes of an archive; as `archive.scenes.Selection`."""

    scenes: _Address
    """Folder, glob, STAC catalog or ItemCollection, STAC API, GeoParquet of items."""
    area: _Path | None = None
    area_layer: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    dates: Annotated[str | None, BeforeValidator(_as_text)] = None
    max_cloud: Annotated[float | None, Field(ge=0, le=100)] = None
    sensors: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    collections: Annotated[list[str], BeforeValidator(_listed)] = Field(default_factory=list)
    query: dict[str, Any] = Field(default_factory=dict)
    asset: str | None = None
    schemes: Annotated[list[str], BeforeValidator(_listed)] = ["https", "http", "s3", "gs", "az"]
    roots: Annotated[list[_Path], BeforeValidator(_listed)] = Field(default_factory=list)
    limit: Annotated[int | None, Field(ge=1)] = None


class ClassifyEach(Classify):
    """How to map the scenes of an archive: as COG, which the programs that read STAC open."""

    formats: Annotated[
        list[Literal["zarr", "tif"]], BeforeValidator(_listed), Field(min_length=1)
    ] = ["tif"]


class Archive(_Section):
    """A workflow for all scenes of an archive."""

    archive: Scenes
    out: _Address
    """Folder of the land-cover archive, or its address; made if missing."""
    model: _Path
    mask: str = "default"
    pixel_coordinates: bool = False
    device: str = "auto"
    classify: Annotated[ClassifyEach, BeforeValidator(_filled)] = ClassifyEach()
    polygonize: Annotated[Polygonize | None, BeforeValidator(_filled)] = None
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a fault that passes (network, memory) is tried again, with growing pauses."""
    whole_pixels: _Pixels = 8_000_000
    """Scenes of more pixels are cut into chunks that all workers share."""
    scratch: _Path | None = None
    """Where scenes are made whose archive is at an address; default the system's folder."""


def load(path: str | os.PathLike[str]) -> Workflow | Archive:
    """Read a workflow file.

    Relative paths in it are relative to its own folder.

    Args:
        path: YAML file.

    Returns:
        The workflow: of one scene, or with the key `archive` of many.

    Raises:
        InputError: Missing or unreadable file, unknown key (with the nearest right one), or a
            value that does not fit.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such workflow file{did_you_mean(file)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({error})") from error
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: February 30
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: a workflow is a mapping with keys such as scene, out and train")
    kind = Archive if "archive" in values else Workflow
    try:
        workflow: Workflow | Archive = kind.model_validate(values, context={_FOLDER: file.parent})
    except ValidationError as error:
        raise InputError(f"{file}: {_explained(error, kind)}") from error
    if isinstance(workflow, Workflow):
        _check_steps(file, workflow)
    if workflow.polygonize is not None and workflow.classify is not None:
        _check_polygonize(file, workflow.classify, workflow.polygonize)
    return workflow


def _check_steps(file: Path, workflow: Workflow) -> None:
    """Refuse steps that lack what they need.

    Raises:
        InputError: Names the step.
    """
    if workflow.train is not None and workflow.model is not None:
        raise InputError(f"{file}: give either the section 'train' or a trained 'model', not both")
    if workflow.train is None and workflow.model is None:
        raise InputError(f"{file}: there is neither a section 'train' nor a trained 'model'")
    for name in ("assess", "polygonize", "report"):
        if getattr(workflow, name) is not None and workflow.classify is None:
            raise InputError(
                f"{file}: {name!r} needs the section 'classify'; 'classify: {{}}' will do"
            )


def _check_polygonize(file: Path, classify: Classify, polygonize: Polygonize) -> None:
    """Refuse options of polygons that need others.

    Raises:
        InputError: Names both.
    """
    if polygonize.join == "probability" and not classify.probabilities:
        raise InputError(
            f"{file}: 'polygonize.join: probability' needs 'classify.probabilities: true'"
        )
    if polygonize.by_layer is not None and polygonize.by is None:
        raise InputError(f"{file}: 'polygonize.by_layer' names a layer of 'polygonize.by'")
    if polygonize.join != "border" and not polygonize.min_area:
        raise InputError(f"{file}: 'polygonize.join' needs 'polygonize.min_area'")


def _explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return the first fault in plain words; a key misspelt is the cause of a key missing."""
    faults = error.errors()
    wrong_keys = ("extra_forbidden", "invalid_key")
    fault = next((f for f in faults if f["type"] in wrong_keys), faults[0])
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place)
    if fault["type"] == "extra_forbidden":
        keys = _keys_at(place[:-1], kind)
        near = difflib.get_close_matches(place[-1], keys, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"keys here: {', '.join(keys)}"
        return f"unknown key {where!r}; {hint}"
    if "bbox" in place:
        return f"{where}: give four numbers: west, south, east, north"
    if fault["type"] == "missing":
        return f"the key {where!r} is missing"
    if fault["type"] == "model_type":
        listed = ", ".join(_keys_at(place, kind))
        return f"{where}: expected a section with keys such as {listed}, found {fault['input']!r}"
    return f"{where}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r}"


def _keys_at(place: list[str], section: type[BaseModel]) -> list[str]:
    """Return the keys that a section may have."""
    for part in place:
        if part.isdigit():  # a place in a list of sections
            continue
        annotation = section.model_fields[part].annotation
        kinds = [annotation, *getattr(annotation, "__args__", ())]
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return list(section.model_fields)
