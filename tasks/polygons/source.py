"""Vector files: opens a layer of any file that fiona reads, and says what is in it.

What fiona and GDAL refuse becomes BadInput in this module and nowhere else.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiona
from fiona._err import CPLE_BaseError  # GDAL's own errors, which fiona 1.10 lets through here and there
from fiona.crs import CRS
from fiona.errors import FionaError

from tasks.errors import BadInput
from tasks.polygons.crs import chosen_crs
from tasks.polygons.vector_file import address_of

logging.getLogger("fiona").setLevel(logging.CRITICAL)  # what GDAL says is ours to tell


@dataclass(frozen=True)
class Source:
    """Where polygons come from.

    Attributes:
        path: a file, or a folder or zip file with one; the text `zip://w.zip!inner.shp` names one of several.
        layer: needed where there are several.
        crs: for a file that names none, for example EPSG:3577; one that contradicts the file is refused.
    """

    path: Path | str
    layer: str | None = None
    crs: str | None = None


@dataclass(frozen=True)
class Layer:
    """An open layer.

    Attributes:
        collection: fiona's.
        name: of the layer.
        crs: of its coordinates.
        fields: name to fiona's type, in the file's order, those that are not read included.
    """

    collection: Any
    name: str
    crs: CRS
    fields: dict[str, str]


@contextlib.contextmanager
def open_layer(
    source: Source, *, fields: tuple[str, ...] | None = None, condition: str | None = None, geometry: bool = True
) -> Iterator[Layer]:
    """Open a layer for reading.

    Args:
        source: which.
        fields: read these only; None reads all.
        condition: fields that it names are read too: GDAL judges by what is read.
        geometry: whether to read geometries.

    Raises:
        BadInput: no such file or layer, several and none named, no vector file, damaged, no such field, no CRS or
            one that cannot be used.
    """
    address = address_of(source.path, source.layer)
    name = _layer_name(address, source)
    with readable(source):
        with fiona.open(address, layer=name) as whole:
            known = dict(whole.schema["properties"])
        unknown = [field for field in fields or () if field not in known]
        if unknown:
            raise BadInput(
                f"{source.path} has no field {', '.join(unknown)}. Its fields: {', '.join(known) or 'none'}."
            )
        named = [field for field in known if condition and field.lower() in condition.lower()]
        collection = _opened(address, name, None if fields is None else [*fields, *named], geometry=geometry)
    with collection:
        with readable(source):
            crs = chosen_crs(collection.crs, source.crs, source.path)
        yield Layer(collection, name, crs, known)


@contextlib.contextmanager
def readable(source: Source) -> Iterator[None]:
    """Turn what fiona and GDAL raise inside into BadInput, and keep what they print from the terminal.

    Not to be held over a generator's `yield`: fiona's environment belongs to the thread.
    """
    try:
        with fiona.Env():
            yield
    except (FionaError, CPLE_BaseError, OSError, RuntimeError, UnicodeError) as error:
        why = str(error.__cause__ or error).strip().rstrip(".")
        raise BadInput(
            f"{source.path} cannot be read as a vector file: {why}. Check that it is whole and of a format that "
            "GDAL reads, such as a zipped shapefile, GeoPackage, GeoJSON or FlatGeobuf."
        ) from error


def _opened(address: str, layer: str, fields: list[str] | None, *, geometry: bool) -> Any:
    chosen = {} if fields is None else {"include_fields": fields}
    try:
        return fiona.open(address, layer=layer, ignore_geometry=not geometry, **chosen)
    except (FionaError, RuntimeError):  # some drivers, such as GeoJSON's, can leave nothing out
        return fiona.open(address, layer=layer)


def _layer_name(address: str, source: Source) -> str:
    with readable(source):
        names: list[str] = fiona.listlayers(address)
        if source.layer in names:
            return source.layer
        drawn = [name for name in names if _has_geometry(address, name)] if len(names) > 1 else names
    if source.layer is not None:
        raise BadInput(f"{source.path} has no layer {source.layer}. It has: {', '.join(names) or 'none'}.")
    if not drawn:
        raise BadInput(f"{source.path} has no layer with geometries. Name another file.")
    if len(drawn) > 1:
        raise BadInput(f"{source.path} has {len(drawn)} layers. Name one with --layer: {', '.join(drawn)}.")
    return drawn[0]


def _has_geometry(address: str, layer: str) -> bool:
    with fiona.open(address, layer=layer) as collection:
        return bool(collection.schema["geometry"] != "None")
