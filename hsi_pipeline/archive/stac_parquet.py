"""STAC items in a GeoParquet file."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
from stac_geoparquet.arrow import stac_table_to_items

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.documents import unreadable
from hsi_pipeline.archive.guards import Guard
from hsi_pipeline.archive.items import scene_of_item
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import open_bytes
from hsi_pipeline.scene.files import one_line, shown

_COLUMNS = {"id", "geometry", "assets"}


def parquet_scenes(path: str, guard: Guard, *, asset: str | None) -> list[Candidate]:
    """Read the scenes of a GeoParquet file of items, as stac-geoparquet writes it.

    Args:
        path: The file or its address.
        guard: Where assets may lead.
        asset: Key of the asset that is the scene; None chooses.

    Raises:
        InputError: It cannot be read, or holds no items.
    """
    try:
        with open_bytes(path) as stream:
            file = pq.ParquetFile(stream)
            columns = set(file.schema_arrow.names)
            if not columns >= _COLUMNS:
                lacking = ", ".join(sorted(_COLUMNS - columns))
                raise InputError(
                    f"{shown(path)} holds no STAC items: it lacks the columns {lacking}; write "
                    "items with stac-geoparquet"
                )
            items = list(stac_table_to_items(file.read()))
    except InputError:
        raise
    except (pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{shown(path)} cannot be read as GeoParquet of STAC items ({one_line(error)[:200]})"
        ) from error
    except Exception as error:  # each file system of fsspec raises its own
        raise unreadable(path, error) from error
    return [scene_of_item(item, path, guard, asset=asset, is_own_file=False) for item in items]
