"""What the sandbox's process services read out of a request, and the hash they count geometries by."""

import json

import pytest

from deployments.sandbox.wps_orders import NoRequest, geometry_hash, read_execute
from tests.wps_desk import inputs, request, square


def test_a_geometry_is_the_same_with_whole_numbers_and_with_fractions_of_nothing() -> None:
    whole, fractions = ({"type": "Point", "coordinates": place} for place in ([145, -20], (145.0, -20.0)))
    assert geometry_hash(whole) == geometry_hash(json.dumps(fractions))
    assert geometry_hash(whole) != geometry_hash({"type": "Point", "coordinates": [-20, 145]})


def test_a_geometry_is_read_from_the_first_line_alone() -> None:
    spread = inputs(square(0)) | {"geometry": "\n" + inputs(square(0))["geometry"]}
    assert read_execute(request(inputs(square(0)))).geometry == geometry_hash(square(0))
    assert read_execute(request(spread)).geometry != geometry_hash(square(0))
    with pytest.raises(NoRequest, match="Unknown request"):
        read_execute(b"<a/>")
