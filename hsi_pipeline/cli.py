"""The command line: names, types, help.

Nothing heavy is imported before a command runs, so that help opens at once.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hsi_pipeline.commands import choices
from hsi_pipeline.commands.choices import one_of, some_of
from hsi_pipeline.errors import InputError

_INTERRUPTED = 130  # what Typer exits with after Ctrl-C

_START = "Start here"
_SCENES = "Scenes"
_MODELS = "Models"
_MAPS = "Maps and polygons"
_ACCURACY = "How good a map is"
_WORKFLOWS = "Whole workflows"
_PROGRAMS = "Other programs"
_PANELS = (_START, _SCENES, _MODELS, _MAPS, _ACCURACY, _WORKFLOWS, _PROGRAMS)


class _Commands(TyperGroup):
    """Commands in the order of the panels that help shows."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return their names."""
        names = super().list_commands(ctx)  # type: ignore[arg-type]
        return sorted(names, key=lambda name: _PANELS.index(self.commands[name].rich_help_panel))  # type: ignore[attr-defined]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Return a command; its help is not to say that "--overwrite" takes a value."""
        command = super().get_command(ctx, cmd_name)  # type: ignore[arg-type]
        for option in command.get_params(ctx) if command else ():  # type: ignore[arg-type]
            if getattr(option, "is_flag", False):
                option.metavar = ""
        return command


app = typer.Typer(
    name="hsi-pipeline",
    cls=_Commands,
    help="Land-cover maps and polygons from hyperspectral scenes.",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Scene = Annotated[
    str,
    typer.Argument(
        help="A product as delivered (EnMAP, PRISMA, EMIT, DESIS, AVIRIS, NEON, Tanager: folder, "
        "archive or file), GeoTIFF, ENVI, Zarr or CF netCDF (.mat, .npy too); s3://, https:// too."
    ),
]
Labels = Annotated[str, typer.Argument(help="Polygons or points, or a class raster.")]
Model = Annotated[Path, typer.Argument(help="Model made by 'train'.")]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the labels with class codes (1 to 255) or class names."),
]
NameColumn = Annotated[str | None, typer.Option(help="Column of the labels that names the codes.")]
ClassTable = Annotated[
    Path | None, typer.Option(help="CSV or YAML with code, name and color (#rrggbb).")
]
SplitColumn = Annotated[
    str | None, typer.Option(help="Column that says train, validation or test.")
]
Layer = Annotated[str | None, typer.Option(help="Layer of the label file.")]
Where = Annotated[str | None, typer.Option(help="Only features for which an SQL condition holds.")]
Device = Annotated[
    str,
    typer.Option(
        help="Where to compute: cpu, cuda (a GPU) or another device of Torch; auto chooses.",
        autocompletion=one_of(choices.DEVICES),
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of split, weights and windows.")]
PixelCoordinates = Annotated[
    bool,
    typer.Option("--pixel-coordinates", help="Accept a scene that does not say where it lies."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Throw away what an interrupted run has done.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only results and errors.")]
Progress = Annotated[
    str,
    typer.Option(
        help="bar, or json: one JSON object a line, for other programs.",
        autocompletion=one_of(choices.PROGRESS),
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object at the end: files written, figures, warnings."
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, tcp://HOST:PORT.")
]
Precision = Annotated[
    str,
    typer.Option(
        help="float32, bfloat16 (faster where the processor has it) or auto.",
        autocompletion=one_of(choices.PRECISIONS),
    ),
]
Chunk = Annotated[
    int | None, typer.Option(help="Side of a chunk in pixels; the result does not change.")
]
Tolerance = Annotated[
    float | None, typer.Option(help="Largest distance between matched bands in nm.")
]


Mask = Annotated[
    str,
    typer.Option(
        help="What becomes nodata by a product's quality layers: default (cloud, cloud shadow, "
        "saturated, invalid), none, strict, or flags with commas between.",
        autocompletion=some_of(choices.FLAGS, alone=choices.MASKS),
    ),
]
Resampling = Annotated[
    str,
    typer.Option(
        help="How the model's bands are made: auto, nearest, linear or gaussian.",
        autocompletion=one_of(choices.RESAMPLING),
    ),
]
FillMissing = Annotated[
    str,
    typer.Option(
        help="What becomes of bands the scene lacks: error, interpolate, or mean.",
        autocompletion=one_of(choices.FILLS),
    ),
]


def _version(show: bool) -> None:
    if show:
        from hsi_pipeline.commands.versions import describe_versions

        typer.echo("\n".join(describe_versions()))
        raise typer.Exit


def _paired(scenes: list[str], labels: list[str], first: str) -> list[tuple[str, str]]:
    """Return each further scene with its labels; without any, the first scene's hold for all."""
    if labels and len(labels) != len(scenes):
        raise InputError(
            f"{len(scenes)} scenes by --also, but {len(labels)} label files by --also-labels; give "
            "one for each, or none if the first one holds the labels of all"
        )
    return list(zip(scenes, labels or [first] * len(scenes), strict=True))


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            metavar="",
            help="Show the versions of this program and of what it stands on, for bug reports.",
        ),
    ] = False,
) -> None:
    """Land-cover maps and polygons from hyperspectral scenes."""
    if context.invoked_subcommand is None:
        from hsi_pipeline.commands.first_steps import FIRST_STEPS

        typer.echo(FIRST_STEPS)


@app.command(rich_help_panel=_SCENES)
def info(
    scene: Scene,
    bands: Annotated[bool, typer.Option("--bands", help="List every band.")] = False,
    mask: Mask = "default",
    pixel_coordinates: PixelCoordinates = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what a scene is: sensor, grid, CRS, bands, bad bands, clouds and statistics."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal("bar", quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.info import info

        info(
            scene,
            bands=bands,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            terminal=terminal,
        )


@app.command(rich_help_panel=_SCENES)
def ingest(
    scene: Scene,
    out: Annotated[Path, typer.Option(help="Store to write, .zarr.")],
    chunk: Annotated[
        int, typer.Option(help="Side of a chunk in pixels; a chunk holds all bands.")
    ] = 128,
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Rewrite a scene once as Zarr, which is faster to read; nothing else changes."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.ingest import ingest

        ingest(
            scene,
            out,
            chunk=chunk,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MODELS)
def train(
    scene: Scene,
    labels: Labels,
    out: Annotated[Path, typer.Option(help="Model to write, .safetensors.")],
    label_column: LabelColumn = None,
    name_column: NameColumn = None,
    class_table: ClassTable = None,
    split_column: SplitColumn = None,
    layer: Layer = None,
    where: Where = None,
    model: Annotated[
        str,
        typer.Option(
            help="hyperloopnet-fusion, hyperloopnet (published size), hyperloopnet-no-attention, "
            "spectral, random_forest, svm, logistic_regression, or the name of a classifier of "
            "scikit-learn.",
            autocompletion=one_of(choices.MODELS),
        ),
    ] = "hyperloopnet-fusion",
    epochs: Annotated[int | None, typer.Option(help="Epochs; default 10.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    validation_share: Annotated[
        float, typer.Option(help="Share of the labels that the epoch is chosen by.")
    ] = 0.2,
    guard: Annotated[
        int | None,
        typer.Option(help="Pixels between training and validation; default the network's reach."),
    ] = None,
    tolerance_nm: Annotated[
        float, typer.Option(help="How far bands of other scenes may lie off, in nm.")
    ] = 5.0,
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further scene to learn from, of any sensor; may be repeated."),
    ] = None,
    also_labels: Annotated[
        list[str] | None,
        typer.Option(help="Labels of each --also, in the same order; default the same file."),
    ] = None,
    wavelengths: Annotated[
        str | None,
        typer.Option(help="Bands to learn on, START:STOP:STEP in nm; default those in common."),
    ] = None,
    band_dropout: Annotated[
        float,
        typer.Option(help="Largest share of bands hidden at random, so that gaps do less harm."),
    ] = 0.0,
    mask: Mask = "default",
    no_baselines: Annotated[
        bool,
        typer.Option(
            "--no-baselines", help="Do not compare the network with scikit-learn's classifiers."
        ),
    ] = False,
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Train a model on a scene and labels of known land cover."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.train import train

        train(
            scene,
            labels,
            out,
            label_column=label_column,
            name_column=name_column,
            class_table=class_table,
            split_column=split_column,
            layer=layer,
            where=where,
            model=model,
            epochs=epochs,
            seed=seed,
            device=device,
            validation_share=validation_share,
            guard=guard,
            tolerance_nm=tolerance_nm,
            also=_paired(also or [], also_labels or [], labels),
            wavelengths=wavelengths,
            band_dropout=band_dropout,
            mask=mask,
            baselines=not no_baselines,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MODELS)
def crossval(
    scene: Scene,
    labels: Labels,
    folds: Annotated[int, typer.Option(help="Spatial folds.")] = 5,
    guard: Annotated[
        int | None,
        typer.Option(help="Pixels between a fold and what is learnt from; default the reach."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model to compare beside the baselines; may be given more than once.",
            autocompletion=one_of(choices.MODELS),
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds for each fold.")] = 1,
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(help="Epochs; default 10.")] = None,
    label_column: LabelColumn = None,
    name_column: NameColumn = None,
    class_table: ClassTable = None,
    layer: Layer = None,
    where: Where = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, .csv; a .md summary goes beside it.")
    ] = None,
    device: Device = "auto",
    mask: Mask = "default",
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Compare a network with random forest, SVM and logistic regression, by spatial folds."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.crossval import crossval

        crossval(
            scene,
            labels,
            folds=folds,
            guard=guard,
            models=model or ["hyperloopnet-fusion"],
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            label_column=label_column,
            name_column=name_column,
            class_table=class_table,
            layer=layer,
            where=where,
            out=out,
            device=device,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MODELS)
def evaluate(
    scene: Scene,
    labels: Labels,
    model: Model,
    label_column: LabelColumn = None,
    name_column: NameColumn = None,
    class_table: ClassTable = None,
    split_column: SplitColumn = None,
    layer: Layer = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option(help="Figures to write, .json.")] = None,
    chunk: Chunk = None,
    precision: Precision = "float32",
    device: Device = "auto",
    scheduler: Scheduler = None,
    tolerance_nm: Tolerance = None,
    resampling: Resampling = "auto",
    fill_missing: FillMissing = "error",
    mask: Mask = "default",
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Say how accurate a model is, on labels that it has not seen."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.evaluate import evaluate

        evaluate(
            scene,
            labels,
            model,
            label_column=label_column,
            name_column=name_column,
            class_table=class_table,
            split_column=split_column,
            layer=layer,
            where=where,
            out=out,
            chunk=chunk,
            precision=precision,
            device=device,
            scheduler=scheduler,
            tolerance_nm=tolerance_nm,
            resampling=resampling,
            fill_missing=fill_missing,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MAPS)
def classify(
    scene: Scene,
    model: Model,
    out: Annotated[Path, typer.Option(help="Class map to write, .zarr or .tif.")],
    chunk: Chunk = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory to use, such as 4GB: makes chunks as large as it allows."),
    ] = None,
    precision: Precision = "float32",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class too.")
    ] = False,
    layers: Annotated[
        str,
        typer.Option(
            help="Where not to trust it, with commas between: entropy, margin, dissimilarity "
            "(above 1: unlike all that the model was trained on).",
            autocompletion=some_of(choices.LAYERS),
        ),
    ] = "",
    device: Device = "auto",
    scheduler: Scheduler = None,
    tolerance_nm: Tolerance = None,
    resampling: Resampling = "auto",
    fill_missing: FillMissing = "error",
    mask: Mask = "default",
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    restart: Restart = False,
    skip_failed: Annotated[
        bool,
        typer.Option(
            "--skip-failed", help="Leave chunks that cannot be read as nodata, and list them."
        ),
    ] = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Make a class map of a scene; if interrupted, the same command goes on where it stopped."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.classify import classify

        classify(
            scene,
            model,
            out,
            chunk=chunk,
            memory=memory,
            precision=precision,
            probabilities=probabilities,
            layers=[name.strip() for name in layers.split(",") if name.strip()],
            device=device,
            scheduler=scheduler,
            tolerance_nm=tolerance_nm,
            resampling=resampling,
            fill_missing=fill_missing,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            restart=restart,
            skip_failed=skip_failed,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MAPS)
def polygonize(
    class_map: Annotated[
        Path, typer.Argument(metavar="MAP", help="Class map: .zarr, or any raster of class codes.")
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Polygons to write: .gpkg, .parquet, .fgb, .geojson, .shp or "
            "postgresql://user@host/database?table=name."
        ),
    ],
    min_area: Annotated[
        float, typer.Option(help="Minimum mapping unit in m2; smaller regions join neighbours.")
    ] = 0.0,
    join: Annotated[
        str,
        typer.Option(
            help="How small regions join: border (the neighbour with the longest), or probability "
            "(the most probable class).",
            autocompletion=one_of(choices.JOINS),
        ),
    ] = "border",
    simplify: Annotated[
        float,
        typer.Option(
            help="Drop vertices whose triangle is no larger than the square of this, in map units. "
            "1.5 to 2 pixels take out the stairs; neighbours still fit."
        ),
    ] = 0.0,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Cut corners; neighbours still fit.")
    ] = False,
    connectivity: Annotated[
        int,
        typer.Option(
            help="4, or 8 to join pixels that touch at a corner.",
            autocompletion=one_of(choices.CONNECTIVITY),
        ),
    ] = 4,
    by: Annotated[
        str | None,
        typer.Option(help="Your own polygons: adds area and share of each class to them instead."),
    ] = None,
    by_layer: Annotated[str | None, typer.Option(help="Layer of these polygons.")] = None,
    chunk: Chunk = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    append: Annotated[
        bool, typer.Option("--append", help="Add to an existing table of a database.")
    ] = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Turn a class map into land-cover polygons, or summarise it by polygons of your own."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.polygonize import polygonize

        polygonize(
            class_map,
            out,
            min_area=min_area,
            join=join,  # type: ignore[arg-type]
            simplify=simplify,
            smooth=smooth,
            connectivity=connectivity,  # type: ignore[arg-type]
            by=by,
            by_layer=by_layer,
            chunk=chunk,
            scheduler=scheduler,
            overwrite=overwrite,
            append=append,
            terminal=terminal,
        )


@app.command(rich_help_panel=_PROGRAMS)
def stac(
    class_map: Annotated[
        Path, typer.Argument(metavar="MAP", help="Class map: .zarr, or any raster of class codes.")
    ],
    out: Annotated[Path, typer.Option(help="STAC item to write, .json.")],
    product: Annotated[
        list[Path] | None,
        typer.Option(help="Another file made of the map; may be given more than once."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Model that made the map.")] = None,
    derived_from: Annotated[
        str | None, typer.Option(help="STAC item of the scene, or the scene: URL or file.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Describe a class map and what was made of it by a STAC item, for catalogs."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.stac import stac

        stac(
            class_map,
            out,
            products=product or [],
            model=model,
            derived_from=derived_from,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MAPS)
def mosaic(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="MAPS...", help="Class maps, or the catalog.json of an archive, or its folder."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Class map to write, .zarr or .tif.")],
    rule: Annotated[
        str,
        typer.Option(
            help="Which map decides where several do: confident, newest or majority.",
            autocompletion=one_of(choices.RULES),
        ),
    ] = "confident",
    crs: Annotated[
        str | None, typer.Option(help="CRS, such as EPSG:32632; default that of most maps.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Size of a pixel; default that of the finest map.")
    ] = None,
    chunk: Chunk = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Join the class maps of overlapping scenes on one grid."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.mosaic import mosaic

        mosaic(
            sources,
            out,
            rule=rule,
            crs=crs,
            resolution=resolution,
            chunk=chunk,
            scheduler=scheduler,
            overwrite=overwrite,
            restart=restart,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MAPS)
def change(
    before: Annotated[Path, typer.Argument(help="Class map of the earlier time.")],
    after: Annotated[Path, typer.Argument(help="Class map of the later time.")],
    out: Annotated[Path, typer.Option(help="Map of transitions to write, .zarr or .tif.")],
    polygons: Annotated[
        Path | None, typer.Option(help="Polygons of change to write, .gpkg and others.")
    ] = None,
    matrix: Annotated[
        Path | None, typer.Option(help="Transition matrix with areas to write, .csv.")
    ] = None,
    min_area: Annotated[
        float, typer.Option(help="Of the polygons: minimum mapping unit in m2.")
    ] = 0.0,
    chunk: Chunk = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Compare two class maps: what became of what, where, and how much."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.change import change

        change(
            before,
            after,
            out,
            polygons=polygons,
            matrix=matrix,
            min_area=min_area,
            chunk=chunk,
            scheduler=scheduler,
            overwrite=overwrite,
            restart=restart,
            terminal=terminal,
        )


@app.command(rich_help_panel=_ACCURACY)
def sample(
    class_map: Annotated[
        Path, typer.Argument(metavar="MAP", help="Class map: .zarr, or any raster of class codes.")
    ],
    out: Annotated[Path, typer.Option(help="Points to fill in, .gpkg.")],
    design: Annotated[
        str,
        typer.Option(
            help="How points are drawn: stratified by the classes of the map, or simple.",
            autocompletion=one_of(choices.DESIGNS),
        ),
    ] = "stratified",
    size: Annotated[
        int | None, typer.Option(help="Number of points; default what --standard-error needs.")
    ] = None,
    standard_error: Annotated[
        float | None,
        typer.Option(help="Of overall accuracy, to reach with the accuracies expected; 0.02."),
    ] = None,
    expected: Annotated[
        list[str] | None,
        typer.Option(
            help='User\'s accuracy expected of all classes, 0.9, or of one, "water=0.95"; may be '
            "repeated; default 0.8."
        ),
    ] = None,
    allocation: Annotated[
        str | None,
        typer.Option(
            help="How classes share the points: balanced (by area, rare ones have a minimum; "
            "default), proportional, equal or optimal.",
            autocompletion=one_of(choices.ALLOCATIONS),
        ),
    ] = None,
    min_per_class: Annotated[
        int | None, typer.Option(help="Fewest points of a class if balanced; default 50.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Draw random points of a class map, for people to say what is really there."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.sample import sample

        sample(
            class_map,
            out,
            design=design,
            size=size,
            standard_error=standard_error,
            expected=expected or (),
            allocation=allocation,
            min_per_class=min_per_class,
            seed=seed,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_ACCURACY)
def assess(
    class_map: Annotated[
        Path, typer.Argument(metavar="MAP", help="Class map: .zarr, or any raster of class codes.")
    ],
    reference: Annotated[
        str, typer.Argument(help="Points (of 'sample', or others), polygons, or a class raster.")
    ],
    design: Annotated[
        str,
        typer.Option(
            help="How the reference was drawn: stratified, simple, none (no probability sample), "
            "or auto: what the file says.",
            autocompletion=one_of(choices.STATED_DESIGNS),
        ),
    ] = "auto",
    strata: Annotated[
        Path | None,
        typer.Option(
            help="Raster whose classes are the strata, where the file has none; else the map's."
        ),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(help='Classes to join before, "impervious=roof,pavement"; may be repeated.'),
    ] = None,
    label_column: LabelColumn = None,
    name_column: NameColumn = None,
    class_table: ClassTable = None,
    split_column: SplitColumn = None,
    layer: Layer = None,
    where: Where = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model that made the map: warns if it was trained on the reference."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Figures to write, .json.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write them into the map's attributes or tags too.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Estimate accuracy and areas of a class map from reference data, with their uncertainty."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.assess import assess

        assess(
            class_map,
            reference,
            design=design,
            strata=strata,
            merge=merge or [],
            label_column=label_column,
            name_column=name_column,
            class_table=class_table,
            split_column=split_column,
            layer=layer,
            where=where,
            model=model,
            out=out,
            record=record,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_MODELS)
def importance(
    scene: Scene,
    labels: Labels,
    model: Model,
    out: Annotated[Path, typer.Option(help="Table to write, .csv: a line for each band.")],
    figure: Annotated[
        Path | None, typer.Option(help="Picture to write, .png, .svg or .pdf.")
    ] = None,
    region: Annotated[
        float, typer.Option(help="Width of the regions that are permuted, in nm.")
    ] = 50.0,
    repeats: Annotated[int, typer.Option(help="Permutations of each region.")] = 5,
    label_column: LabelColumn = None,
    name_column: NameColumn = None,
    class_table: ClassTable = None,
    layer: Layer = None,
    where: Where = None,
    seed: Annotated[int, typer.Option(help="Seed of the permutations.")] = 0,
    device: Device = "auto",
    tolerance_nm: Tolerance = None,
    resampling: Resampling = "auto",
    mask: Mask = "default",
    pixel_coordinates: PixelCoordinates = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Show which wavelengths a model relies on, by permuting them and by gradients."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.importance import importance

        importance(
            scene,
            labels,
            model,
            out,
            figure=figure,
            region_nm=region,
            repeats=repeats,
            label_column=label_column,
            name_column=name_column,
            class_table=class_table,
            layer=layer,
            where=where,
            seed=seed,
            device=device,
            tolerance_nm=tolerance_nm,
            resampling=resampling,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            overwrite=overwrite,
            terminal=terminal,
        )


@app.command(rich_help_panel=_ACCURACY)
def report(
    class_map: Annotated[
        Path, typer.Argument(metavar="MAP", help="Class map: .zarr, or any raster of class codes.")
    ],
    out: Annotated[
        Path, typer.Option(help="Report to write, .html; its numbers go to .json beside it.")
    ],
    scene: Annotated[
        str | None, typer.Option(help="Scene that was classified: pictures and spectra.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model that made the map: calibration and training.")
    ] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="Polygons to show with their attributes, any vector file.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the polygons.")] = None,
    assessment: Annotated[
        Path | None, typer.Option(help="Accuracy and areas, the file that 'assess' wrote.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures as PNG of 300 dpi.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Show a class map and how good it is in one HTML file that needs no network."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.report import report

        report(
            class_map,
            out,
            scene=scene,
            model=model,
            polygons=polygons,
            layer=layer,
            assessment=assessment,
            figures=figures,
            title=title,
            overwrite=overwrite,
            terminal=terminal,
        )


Workers = Annotated[
    int | None,
    typer.Option(help="Processes for an archive; default one a core, 0: threads of this process."),
]
Force = Annotated[bool, typer.Option("--force", help="Map all scenes of an archive anew.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try scenes of an archive again that are faulty.")
]


@app.command(rich_help_panel=_WORKFLOWS)
def run(
    workflow: Annotated[
        Path, typer.Argument(help="Workflow file, YAML: of one scene, or of an archive.")
    ],
    scheduler: Scheduler = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results, of one scene.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Throw away what an interrupted run of one scene has done."),
    ] = False,
    workers: Workers = None,
    force: Force = False,
    retry_failed: RetryFailed = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is to do in an archive.")
    ] = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Run all steps of a workflow file (exit code 1 if scenes of an archive failed)."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.workflow import run_workflow

        complete = run_workflow(
            workflow,
            scheduler=scheduler,
            workers=workers,
            overwrite=overwrite,
            restart=restart,
            force=force,
            retry_failed=retry_failed,
            dry_run=dry_run,
            terminal=terminal,
        )
    if not complete:
        raise typer.Exit(1)


archive = typer.Typer(
    help="What 'run' would do with an archive of many scenes.", no_args_is_help=True
)
app.add_typer(archive, name="archive", rich_help_panel=_WORKFLOWS)


@archive.command("list")
def archive_list(
    workflow: Annotated[Path, typer.Argument(help="Workflow file, YAML, with the key 'archive'.")],
    every: Annotated[bool, typer.Option("--all", help="Show every scene.")] = False,
    retry_failed: RetryFailed = False,
    force: Force = False,
    workers: Workers = None,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """Show what a run would do: scenes, their size, and the time by a measured rate."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.archive import list_archive

        list_archive(
            workflow,
            every=every,
            retry_failed=retry_failed,
            force=force,
            workers=workers,
            terminal=terminal,
        )


@app.command(rich_help_panel=_START)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/sample"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    progress: Progress = "bar",
    as_json: Json = False,
) -> None:
    """See it work: train, classify, polygons and a report of a sample scene."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.demo import demo

        demo(out, overwrite=overwrite, terminal=terminal)


@app.command(rich_help_panel=_START)
def doctor(quiet: Quiet = False, progress: Progress = "bar", as_json: Json = False) -> None:
    """Check the installation, and say how to mend what is wrong (exit code 1 if something is)."""
    from hsi_pipeline.commands.doctor import doctor

    try:
        from hsi_pipeline.commands.terminal import open_terminal
    except ImportError:  # a package that it needs is missing or broken, which the checks tell
        well = doctor(None)
    else:
        with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
            well = doctor(terminal)
    if not well:
        raise typer.Exit(1)


qgis = typer.Typer(help="Put the plugin into QGIS, take it out, check it.", no_args_is_help=True)
app.add_typer(qgis, name="qgis", rich_help_panel=_PROGRAMS)

Profile = Annotated[
    str | None,
    typer.Option(
        help="Profile of QGIS: its name, or its folder; default the one QGIS starts with."
    ),
]


@qgis.command("install")
def qgis_install(
    profile: Profile = None, quiet: Quiet = False, progress: Progress = "bar", as_json: Json = False
) -> None:
    """Put the plugin into a profile of QGIS, tied to this environment; again after an update."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.qgis import install

        install(profile, terminal=terminal)


@qgis.command("uninstall")
def qgis_uninstall(
    profile: Profile = None, quiet: Quiet = False, progress: Progress = "bar", as_json: Json = False
) -> None:
    """Take the plugin out of a profile of QGIS."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.qgis import uninstall

        uninstall(profile, terminal=terminal)


@qgis.command("doctor")
def qgis_doctor(
    profile: Profile = None, quiet: Quiet = False, progress: Progress = "bar", as_json: Json = False
) -> None:
    """Say whether QGIS can run this environment, and how to mend what is wrong."""
    from hsi_pipeline.commands.terminal import open_terminal

    with open_terminal(progress, quiet=quiet, as_json=as_json) as terminal:
        from hsi_pipeline.commands.qgis_doctor import doctor

        well = doctor(profile, terminal=terminal)
    if not well:
        raise typer.Exit(1)


@app.command(rich_help_panel=_PROGRAMS)
def serve(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with scenes, models and maps; nothing outside is touched."),
    ],
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    max_megapixels: Annotated[
        float, typer.Option(help="Largest scene or map of a request, in million pixels.")
    ] = 100.0,
    jobs: Annotated[int, typer.Option(help="Jobs that run at once; others wait.")] = 1,
    timeout: Annotated[float, typer.Option(help="Longest run of a job, in seconds.")] = 21600.0,
    url: Annotated[
        str | None,
        typer.Option(help="Address that clients know, where a proxy stands before the server."),
    ] = None,
    quiet: Quiet = False,
    progress: Progress = "bar",
) -> None:
    """Offer classify and polygonize as OGC API - Processes to programs on this machine."""
    from hsi_pipeline.commands.serve import serve
    from hsi_pipeline.commands.terminal import open_terminal

    serve(
        folder,
        port=port,
        max_megapixels=max_megapixels,
        jobs=jobs,
        timeout=timeout,
        url=url,
        terminal=open_terminal(progress, quiet=quiet),
    )


def main() -> None:
    """Run the command line; a user's mistake gives one line on standard error and exit code 2."""
    # what another program ends is cleaned up as after Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_INTERRUPTED))
    if sys.platform == "win32":  # where that ends a program at once, and this is the polite way
        signal.signal(signal.SIGBREAK, lambda *_: sys.exit(_INTERRUPTED))
    try:
        # taken away, so that programs that we start do not watch theirs
        if os.environ.pop("HSI_PIPELINE_STOP_ON_EOF", "0") not in ("", "0"):
            from hsi_pipeline.lifeline import end_with_standard_input

            end_with_standard_input()
        app()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except SystemExit as error:
        if error.code == _INTERRUPTED:
            with suppress(OSError):  # whoever stopped it may not read any more
                typer.echo("stopped; nothing unfinished stands under its final name", err=True)
        raise
    except OSError as error:
        if os.environ.get("HSI_PIPELINE_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
