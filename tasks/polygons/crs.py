"""Coordinate reference systems: the one to read by, its name, and the way from it to longitude and latitude."""

import re
from collections.abc import Sequence

import fiona
import fiona.transform
from fiona.crs import CRS
from fiona.errors import CRSError

from tasks.errors import BadInput

LON_LAT = "OGC:CRS84"
"""WGS 84 as lon, lat. To EPSG:4326 fiona 1.10.1 takes a hundred times as long, for the same coordinates."""

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""

_ALREADY_LON_LAT = (("EPSG", "4326"), ("EPSG", "4979"), ("OGC", "CRS84"))
_SEMI_MAJOR_AXIS = re.compile(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([0-9.]+)')
_EARTH_M = (6_350_000, 6_400_000)


def chosen_crs(found: CRS, given: str | None, where: object) -> CRS:
    """Return the CRS to read by: the file's, or the one given for a file without.

    Args:
        found: what the file says; empty where it says nothing.
        given: what a person says, for example `EPSG:3577`.
        where: the file, for messages.

    Raises:
        BadInput: neither is there, they contradict each other, or there is no way from it to lon, lat.
    """
    said = _parsed(given) if given else None
    if found and said and found != said and canonical(found) != canonical(said):
        raise BadInput(
            f"{where} says that it is in {canonical(found)}, and {given} was given. Leave --crs away, or correct "
            "the file if it is wrong."
        )
    crs = found or said
    if not crs:
        raise BadInput(
            f"{where} does not name its coordinate reference system (a shapefile does in its .prj file). Give it "
            "with --crs, for example --crs EPSG:3577."
        )
    if not (crs.is_geographic or crs.is_projected) or not _of_earth(crs):
        raise BadInput(
            f"{where} is in {canonical(crs)}, from which no way leads to longitude and latitude. Reproject it "
            "first."
        )
    return crs


def canonical(crs: CRS) -> str:
    """Return `EPSG:3577` where an authority knows the CRS, else its WKT on one line."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else " ".join(crs.to_wkt().split())


def is_lon_lat(crs: CRS) -> bool:
    """Tell whether coordinates are WGS 84 lon, lat as they stand."""
    return crs.to_authority() in _ALREADY_LON_LAT


def to_lon_lat(xs: Sequence[float], ys: Sequence[float], crs: CRS) -> tuple[Sequence[float], Sequence[float]]:
    """Return longitudes and latitudes; infinite where a point has none. One call for many: each costs 0.5 ms."""
    if is_lon_lat(crs):
        return xs, ys
    with fiona.Env():  # else GDAL prints each point it cannot move
        lons, lats = fiona.transform.transform(crs, LON_LAT, xs, ys)
    return lons, lats


def transformed_bounds(bounds: Bounds, source: CRS | str, target: CRS | str) -> Bounds | None:
    """Return the box in `target` around a box in `source`; None where it has no place there.

    Straight edges bend on the way, so 21 points of each are moved.
    """
    west, south, east, north = bounds
    across = [west + (east - west) * step / 20 for step in range(21)]
    up = [south + (north - south) * step / 20 for step in range(21)]
    xs = [*across, *across, *[west] * 21, *[east] * 21]
    ys = [*[south] * 21, *[north] * 21, *up, *up]
    with fiona.Env():
        moved = zip(*fiona.transform.transform(source, target, xs, ys), strict=True)
    there = [(x, y) for x, y in moved if abs(x) < float("inf") and abs(y) < float("inf")]
    if not there:
        return None
    return min(x for x, _ in there), min(y for _, y in there), max(x for x, _ in there), max(y for _, y in there)


def _parsed(text: str) -> CRS:
    try:
        with fiona.Env():
            return CRS.from_user_input(text)
    except CRSError as error:
        raise BadInput(
            f"{text!r} is no coordinate reference system that PROJ knows. Write it as EPSG:3577."
        ) from error


def _of_earth(crs: CRS) -> bool:
    """Tell whether the ellipsoid is the Earth's: from another body's, GDAL returns coordinates untouched."""
    axis = _SEMI_MAJOR_AXIS.search(crs.to_wkt())
    return axis is None or _EARTH_M[0] < float(axis.group(1)) < _EARTH_M[1]
