"""Parameters that several algorithms have."""

from __future__ import annotations

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .algorithm import CommandAlgorithm

_SCENE_HELP = (
    "A raster layer or file with all bands and their wavelengths. Files that QGIS has exported "
    "have lost these. Products as they were delivered go below instead."
)
_PRODUCT_HELP = (
    "EnMAP, PRISMA, EMIT, DESIS, AVIRIS, NEON or Tanager: the archive (.zip, .tar.gz), "
    "METADATA.XML, .he5, .h5, .nc, ENVI image, or the path of a folder or Zarr store, or an "
    "address (s3://, https://). Instead of the layer above."
)


def add_scene(algorithm: CommandAlgorithm, *, is_needed: bool = True) -> None:
    """Add the two ways to give a scene."""
    title = "Scene: a raster layer" if is_needed else "Scene, for pictures and spectra: a layer"
    layer = QgsProcessingParameterRasterLayer("SCENE", title, optional=True)
    algorithm.add(layer, text=_SCENE_HELP)
    product = QgsProcessingParameterFile(
        "PRODUCT", "... or a product as it was delivered", optional=True
    )
    algorithm.add(product, text=_PRODUCT_HELP)


def add_map(algorithm: CommandAlgorithm) -> None:
    """Add a class map."""
    text = "A class map of 'Classify a scene', or any raster of class codes."
    algorithm.add(QgsProcessingParameterRasterLayer("MAP", "Class map"), text=text)


def add_model(
    algorithm: CommandAlgorithm, flag: str = "", *, text: str, optional: bool = False
) -> None:
    """Add a model."""
    model = QgsProcessingParameterFile(
        "MODEL", "Model", fileFilter="Models (*.safetensors)", optional=optional
    )
    algorithm.add(model, flag, text=text)


def add_vector(
    algorithm: CommandAlgorithm,
    name: str,
    title: str,
    *,
    text: str,
    with_points: bool = True,
    optional: bool = False,
) -> None:
    """Add a layer of polygons, or of polygons or points."""
    kinds = [QgsProcessing.SourceType.TypeVectorPolygon]
    if with_points:
        kinds.append(QgsProcessing.SourceType.TypeVectorPoint)
    source = QgsProcessingParameterFeatureSource(name, title, kinds, optional=optional)
    algorithm.add(source, text=text)


def add_columns(algorithm: CommandAlgorithm, parent: str) -> None:
    """Add the columns of labels."""
    for name, title, flag, text, advanced in (
        ("LABEL_COLUMN", "Column of classes", "--label-column",
         "Codes (whole numbers from 1 to 255) or names. Without it a column with an obvious "
         "name is taken, such as class_id.", False),
        ("NAME_COLUMN", "Column that names the codes", "--name-column", "", False),
        ("SPLIT_COLUMN", "Column that says train, validation or test", "--split-column", "",
         True),
    ):  # fmt: skip
        column = QgsProcessingParameterField(
            name, title, parentLayerParameterName=parent, optional=True
        )
        algorithm.add(column, flag, text=text, is_advanced=advanced)
    table = QgsProcessingParameterFile("CLASS_TABLE", "Table of classes", optional=True)
    text = "CSV or YAML with code, name and color (#rrggbb)."
    algorithm.add(table, "--class-table", text=text, is_advanced=True)


def add_device(algorithm: CommandAlgorithm) -> None:
    """Add where a network computes."""
    device = QgsProcessingParameterString("DEVICE", "Device", "auto")
    text = "cpu, cuda (an NVIDIA GPU), or auto, which takes a GPU where there is one."
    algorithm.add(device, "--device", text=text, is_advanced=True)


def add_mask(algorithm: CommandAlgorithm) -> None:
    """Add which pixels become nodata."""
    mask = QgsProcessingParameterString("MASK", "Quality mask", "default")
    text = (
        "What becomes nodata by a product's quality layers: default (cloud, cloud shadow, "
        "saturated, invalid), none, strict, or flags with commas between."
    )
    algorithm.add(mask, "--mask", text=text, is_advanced=True)


def add_pixel_coordinates(algorithm: CommandAlgorithm) -> None:
    """Add whether a scene may be without georeference."""
    allowed = QgsProcessingParameterBoolean(
        "PIXEL_COORDINATES", "Accept a scene without georeference", False
    )
    algorithm.add(allowed, "--pixel-coordinates", is_advanced=True)


def add_seed(algorithm: CommandAlgorithm) -> None:
    """Add the seed of all that is random."""
    seed = QgsProcessingParameterNumber("SEED", "Seed", defaultValue=0, minValue=0)
    algorithm.add(seed, "--seed", text="Of split, weights and windows.", is_advanced=True)


def add_chunk(algorithm: CommandAlgorithm) -> None:
    """Add how much is computed at a time."""
    chunk = QgsProcessingParameterNumber(
        "CHUNK", "Side of a chunk in pixels", optional=True, minValue=1
    )
    text = "What is computed at a time; the result does not depend on it."
    algorithm.add(chunk, "--chunk", text=text, is_advanced=True)


def add_scheduler(algorithm: CommandAlgorithm) -> None:
    """Add a cluster."""
    scheduler = QgsProcessingParameterString("SCHEDULER", "Dask cluster", optional=True)
    text = "Address of a running scheduler, tcp://HOST:PORT; its workers must see the same files."
    algorithm.add(scheduler, "--scheduler", text=text, is_advanced=True)


def add_choice(
    algorithm: CommandAlgorithm,
    name: str,
    title: str,
    flag: str,
    choices: tuple[str, ...],
    *,
    text: str = "",
    is_advanced: bool = True,
) -> None:
    """Add a choice of words, of which the first is the default."""
    choice = QgsProcessingParameterEnum(
        name, title, choices, defaultValue=choices[0], usesStaticStrings=True
    )
    # qgis_process of old asks for numbers, and takes words alone
    text = f"{text} In words: {', '.join(choices)}.".strip()
    algorithm.add(choice, flag, text=text, is_advanced=is_advanced)
