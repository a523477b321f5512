"""Single geometries that are not valid as they stand: what is wrong, where, and what can be made of them.

Also areas on the ellipsoid.
"""

import re

import numpy as np
import shapely
import shapely.validation
from numpy.typing import NDArray

_SEMI_MAJOR_AXIS_KM = 6378.137
_ECCENTRICITY = 0.0818191908426
"""Of the WGS 84 ellipsoid."""

_EXPLANATION = re.compile(r"(?P<what>[^\[]+)\[(?P<x>\S+) (?P<y>[^\s\]]+).*\]")


def mended(exact: shapely.Geometry, precision: int, *, repair: bool) -> tuple[shapely.Geometry | None, str, str]:
    """Return what a geometry that is invalid once rounded becomes, why it cannot be sent, and what was done.

    Args:
        exact: in lon, lat, before rounding.
        precision: decimals to round to.
        repair: whether an invalid one may be changed. One that only rounding makes invalid may always.
    """
    note, shape = "rounded so that it stays valid", exact
    if not shapely.is_valid(exact):
        fault = _fault(exact)
        if not repair:
            return None, f"{fault}; --repair would mend it", ""
        note, shape = f"repaired: {fault}", _polygonal(shapely.make_valid(exact))
    shape = shapely.set_precision(_polygonal(shape), 10.0**-precision)
    shape = shapely.transform(_polygonal(shape), lambda points: np.round(points, precision) + 0.0)
    if shape.is_empty or not shapely.is_valid(shape):
        return None, f"nothing is left of it at {precision} decimals of a degree", ""
    return shape, "", note


def area_km2(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the areas of geometries in lon, lat; not a number for None.

    By the cylindrical equal-area projection of the WGS 84 ellipsoid. Source: J. P. Snyder, Map Projections: A
    Working Manual (USGS Professional Paper 1395), equations 10-17 and 3-12.
    """
    areas: NDArray[np.float64] = shapely.area(shapely.transform(shapes, _equal_area))
    return areas


def _equal_area(lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
    e = _ECCENTRICITY
    sine = np.sin(np.radians(lon_lat[:, 1]))
    q = (1 - e**2) * (sine / (1 - (e * sine) ** 2) - np.log((1 - e * sine) / (1 + e * sine)) / (2 * e))
    return _SEMI_MAJOR_AXIS_KM * np.column_stack((np.radians(lon_lat[:, 0]), q / 2))


def _fault(shape: shapely.Geometry) -> str:
    """Return GEOS's words with their place as `lon, lat`: `self-intersection at 142.810086, -25.016788`."""
    said = shapely.validation.explain_validity(shape)
    found = _EXPLANATION.fullmatch(said)
    if not found:
        return str(said).lower()
    return f"{found['what'].lower()} at {float(found['x']):.6f}, {float(found['y']):.6f}"


def _polygonal(shape: shapely.Geometry) -> shapely.Geometry:
    """Return a geometry's polygons: one as Polygon, several as MultiPolygon, none as an empty one."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = [
        polygon
        for part in shapely.get_parts(shape)
        for polygon in shapely.get_parts(part)
        if polygon.geom_type == "Polygon"
    ]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
