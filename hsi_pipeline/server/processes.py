"""What the server offers: inputs and outputs of each process, and the command line of a request.

A further process is an entry in `PROCESSES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hsi_pipeline import __version__
from hsi_pipeline.map_layers import OPTIONAL_LAYERS
from hsi_pipeline.server.contents import MAPS, MODELS, SCENES, check_content
from hsi_pipeline.server.folder import SharedFolder
from hsi_pipeline.server.limits import MOST_LETTERS
from hsi_pipeline.server.map_files import layer_files, layers_of
from hsi_pipeline.server.refused import RefusedError

POLYGONS = (".gpkg", ".parquet", ".fgb", ".geojson")
"""Suffixes of polygons. Shapefiles are left out: they are six files under one name."""

_PATH = {"type": "string", "minLength": 1, "maxLength": MOST_LETTERS}
_NO = {"type": "boolean", "default": False}


@dataclass(frozen=True)
class Work:
    """A request that may run."""

    arguments: tuple[str, ...]
    """Of the command line, with full paths."""
    reads: tuple[Path, ...]
    """Files that it reads."""
    out: Path
    """What it writes."""
    stages: tuple[str, ...]
    """Labels of its progress, in order."""


@dataclass(frozen=True)
class Process:
    """One command as a process."""

    title: str
    description: str
    inputs: Mapping[str, Mapping[str, Any]]
    """By name: title, description, and the JSON Schema of the value."""
    sources: Mapping[str, tuple[str, ...]]
    """Inputs that name files to read, in the order of the command line, with their suffixes."""
    targets: tuple[str, ...]
    """Suffixes of `out`."""
    stages: Mapping[str, str]
    """Labels of its progress, in order, each with the input that it needs, or ""."""
    example: Mapping[str, Any]

    def described(self, name: str) -> dict[str, Any]:
        """Return the process description of OGC API - Processes."""
        inputs = {
            key: {
                **value,
                "minOccurs": 0 if "default" in value["schema"] else 1,
                "maxOccurs": 1,
            }
            for key, value in self.inputs.items()
        }
        return {
            "id": name,
            "version": __version__,
            "title": self.title,
            "description": self.description,
            "keywords": ["land cover", "hyperspectral"],
            "jobControlOptions": ["sync-execute", "async-execute", "dismiss"],
            "outputTransmission": ["value"],
            "links": [],
            "inputs": inputs,
            "outputs": OUTPUTS,
            "example": {"inputs": dict(self.example)},
        }

    def check(self, inputs: Any) -> dict[str, Any]:
        """Hold the inputs of a request against their schemas.

        Raises:
            RefusedError: Names the first that is missing, unknown or wrong.
        """
        schemas = {key: value["schema"] for key, value in self.inputs.items()}
        schema = {
            "type": "object",
            "properties": schemas,
            "required": [key for key, value in schemas.items() if "default" not in value],
            "additionalProperties": False,
        }
        if (wrong := best_match(Draft202012Validator(schema).iter_errors(inputs))) is not None:
            where = f"input {wrong.path[0]!r}" if wrong.path else "inputs"
            missing = wrong.validator == "required"
            said = wrong.message  # with the whole value before what is wrong with it
            raise RefusedError(
                f"{where}: {said if len(said) < 200 else f'{said[:60]}... {said[-100:]}'}",
                code="MissingParameterValue" if missing else "InvalidParameterValue",
            )
        return dict(inputs)

    def prepare(self, name: str, inputs: Any, folder: SharedFolder) -> Work:
        """Return the work of a request.

        Args:
            name: Of the process, which is the command's.
            inputs: As the request has them.
            folder: Where all of its files lie.

        Raises:
            RefusedError: Anything about the inputs that cannot work, as far as names and first
                bytes of files tell.
        """
        given = self.check(inputs)
        sources = {key: folder.source(given[key], ends) for key, ends in self.sources.items()}
        out = folder.target(given["out"], self.targets)
        overwrite = given.get("overwrite", False)
        if out.exists() and not overwrite:
            raise RefusedError(
                f"{given['out']!r} exists; choose another name or set overwrite to true"
            )
        reads = [file for source in sources.values() for file in (source, *layers_of(source))]
        for file in reads:
            check_content(file, folder.shown(file))
        _check_apart(reads, out, folder)
        options = _options({key: given[key] for key in given.keys() - sources.keys() - {"out"}})
        stages = (label for label, needs in self.stages.items() if given.get(needs, not needs))
        return Work(
            arguments=(name, *options, f"--out={out}", "--", *map(str, sources.values())),
            reads=tuple(reads),
            out=out,
            stages=tuple(stages),
        )


def _options(given: Mapping[str, Any]) -> list[str]:
    """Return options with their values behind "=", so that no value is taken for an option."""
    options = []
    for key, value in given.items():
        option = f"--{key.replace('_', '-')}"
        if value is False or value == []:
            continue
        if value is True:
            options.append(option)
        else:
            options.append(f"{option}={','.join(value) if isinstance(value, list) else value}")
    return options


def _check_apart(reads: list[Path], out: Path, folder: SharedFolder) -> None:
    """Refuse to write over what is read.

    Raises:
        RefusedError: Names the input.
    """
    written = [out, *layer_files(out)]
    for path in reads:
        if any(place == path or (place.exists() and place.samefile(path)) for place in written):
            raise RefusedError(
                f"{folder.shown(out)!r} would be written over {folder.shown(path)!r}, which is "
                "read; choose another name"
            )


def _path(title: str, suffixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the description of a file."""
    told = f"Path relative to the folder of the server; {', '.join(suffixes)}."
    return {"title": title, "description": told, "schema": _PATH}


def _option(title: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"title": title, "description": f"{title}.", "schema": schema}


def _choice(title: str, *values: Any) -> dict[str, Any]:
    """Return the description of an option with a few values, the first of them the default."""
    kind = "integer" if isinstance(values[0], int) else "string"
    return _option(title, {"type": kind, "enum": list(values), "default": values[0]})


def _number(title: str, most: float) -> dict[str, Any]:
    return _option(title, {"type": "number", "minimum": 0, "maximum": most, "default": 0})


_MASK = {
    "type": "string",
    "pattern": "^[a-z_]+(,[a-z_]+)*$",
    "maxLength": 200,
    "default": "default",
}
_LAYERS = {
    "type": "array",
    "items": {"type": "string", "enum": list(OPTIONAL_LAYERS)},
    "uniqueItems": True,
    "maxItems": len(OPTIONAL_LAYERS),
    "default": [],
}

OUTPUTS = {
    "out": {
        "title": "File written",
        "description": "Path relative to the folder of the server, as asked for.",
        "schema": {"type": "string"},
    },
    "messages": {
        "title": "Messages",
        "description": "What there is to know of the result, a line each.",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
}
"""Outputs of all processes: the result itself stays in the folder."""

PROCESSES = {
    "classify": Process(
        title="Classify a scene",
        description="Makes a land-cover map of a hyperspectral scene with a trained model.",
        inputs={
            "scene": _path("Scene", SCENES),
            "model": _path("Model", MODELS),
            "out": _path("Class map to write", MAPS),
            "layers": _option("Where not to trust the map: layers to write beside it", _LAYERS),
            "probabilities": _option("Write the probability of each class", _NO),
            "mask": _option("What becomes nodata by quality layers", _MASK),
            "precision": _choice("Precision", "float32", "bfloat16", "auto"),
            "resampling": _choice("How bands are made", "auto", "nearest", "linear", "gaussian"),
            "fill_missing": _choice("Bands that the scene lacks", "error", "interpolate", "mean"),
            "overwrite": _option("Replace an existing map", _NO),
        },
        sources={"scene": SCENES, "model": MODELS},
        targets=MAPS,
        stages={"classifying": ""},
        example={"scene": "scene.tif", "model": "model.safetensors", "out": "map.tif"},
    ),
    "polygonize": Process(
        title="Polygons of a class map",
        description="Makes land-cover polygons of a class map.",
        inputs={
            "map": _path("Class map", MAPS),
            "out": _path("Polygons to write", POLYGONS),
            "min_area": _number("Minimum mapping unit in square metres", 1e12),
            "simplify": _number("Tolerance of simpler lines, in units of the map", 1e6),
            "smooth": _option("Cut corners", _NO),
            "connectivity": _choice("Neighbours of a pixel", 4, 8),
            "overwrite": _option("Replace an existing file", _NO),
        },
        sources={"map": MAPS},
        targets=POLYGONS,
        stages={"minimum area": "min_area", "polygons": ""},
        example={"map": "map.tif", "out": "landcover.gpkg", "min_area": 2700},
    ),
}
"""Commands that are offered, by name."""
