"""What is sent to each process, and processes of one's own."""

import json
from pathlib import Path

import pytest

from tasks.errors import BadInput
from tasks.polygons.intervals import parse_interval
from tasks.polygons.jobs import InputValue, Order
from tasks.polygons.process import BUILT_IN
from tasks.polygons.process_file import process_named

GEOMETRY = '{"type":"Polygon","coordinates":[[[145.0,-22.0],[145.0,-21.0],[146.0,-21.0],[145.0,-22.0]]]}'
YEAR = parse_interval("2010-01-01/2011-01-01")
OWN = """
identifier = "my-drill"
takes = ["polygon", "point"]
outputs = ["table"]
allowed_hosts = ["files.example.org"]

[geometry]
identifier = "aoi"
form = "geometry"
mime_type = "application/geo+json"

[start]
identifier = "from"
form = "literal"

[end]
identifier = "to"
form = "literal"

[[literals]]
identifier = "resolution"
value = 30

[[literals]]
identifier = "verbose"
value = true

[[complex]]
identifier = "parameters"
mime_type = "application/json"
value = { aggregate = 15, "name" = "a & <b>" }
"""


def moment(text: str) -> dict[str, object]:
    """A time as WIT reads it."""
    timestamp = {"type": "string", "format": "date-time", "date-time": text}
    return {"type": "object", "properties": {"timestamp": timestamp}}


def own(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("wit", "WIT"),
        ("fractional-cover-drill", "FractionalCoverDrill"),
        ("mangrove-cover-drill", "Mangrove Cover Drill"),
    ],
)
def test_the_polygon_drills_are_sent_one_feature_and_two_times(name: str, identifier: str) -> None:
    order = BUILT_IN[name].order(GEOMETRY, YEAR)
    assert (order.process, order.outputs) == (identifier, ())
    assert [value.identifier for value in order.inputs] == ["geometry", "start", "end"]
    assert {(value.kind, value.mime_type) for value in order.inputs} == {("complex", None)}
    assert [json.loads(value.text) for value in order.inputs] == [
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": json.loads(GEOMETRY)}]},
        moment("2010-01-01T00:00"),
        moment("2011-01-01T00:00"),
    ]


def test_the_pixel_drill_is_sent_a_point_and_no_time() -> None:
    drill = BUILT_IN["wofs-drill"]
    order = drill.order('{"type":"Point","coordinates":[145.0,-22.0]}', None)
    assert (order.process, [value.identifier for value in order.inputs]) == ("WOfSDrill", ["geometry"])
    assert drill.kinds == {"point"}
    with pytest.raises(BadInput, match="wofs-drill takes no interval"):
        drill.order(GEOMETRY, YEAR)


def test_wit_without_an_interval_is_refused() -> None:
    with pytest.raises(BadInput, match="wit needs to know when"):
        BUILT_IN["wit"].order(GEOMETRY, None)


def test_each_complex_value_is_one_line_whatever_the_properties_hold() -> None:
    properties = {"NAME": 'line\nbreak & <tag> "quoted"', "AREA": float("nan"), "DATE": YEAR.start.date()}
    order = BUILT_IN["wit"].order(GEOMETRY, YEAR, properties)
    assert not any("\n" in value.text for value in order.inputs)
    feature = json.loads(order.inputs[0].text)["features"][0]
    assert feature["properties"] == {"NAME": properties["NAME"], "AREA": None, "DATE": "2010-01-01"}


def test_the_built_in_processes_know_where_their_status_documents_lie_and_what_is_too_large() -> None:
    for process in BUILT_IN.values():
        assert process.allowed_hosts == {"s3.ap-southeast-2.amazonaws.com"}
        assert process.max_request_bytes == 3 * 1024 * 1024


def test_a_process_of_one_s_own_is_sent_as_its_file_says(tmp_path: Path) -> None:
    process = process_named(own(tmp_path, OWN))
    assert (process.name, process.kinds) == ("mine", {"polygon", "point"})
    assert process.allowed_hosts == {"files.example.org"}
    assert process.order(GEOMETRY, YEAR) == Order(
        "my-drill",
        (
            InputValue("aoi", GEOMETRY, mime_type="application/geo+json"),
            InputValue("from", "2010-01-01T00:00", kind="literal"),
            InputValue("to", "2011-01-01T00:00", kind="literal"),
            InputValue("resolution", "30", kind="literal"),
            InputValue("verbose", "true", kind="literal"),
            InputValue("parameters", '{"aggregate":15,"name":"a & <b>"}', mime_type="application/json"),
        ),
        ("table",),
    )


def test_the_shortest_file_is_an_identifier(tmp_path: Path) -> None:
    process = process_named(own(tmp_path, 'identifier = "drill"'))
    assert not process.needs_interval
    feature = {"type": "Feature", "geometry": json.loads(GEOMETRY), "properties": None}
    order = process.order(GEOMETRY, None)
    assert json.loads(order.inputs[0].text) == {"type": "FeatureCollection", "features": [feature]}


def test_a_process_that_needs_only_a_start_is_sent_only_that(tmp_path: Path) -> None:
    process = process_named(own(tmp_path, 'identifier = "drill"\n[start]\nidentifier = "since"'))
    assert [value.identifier for value in process.order(GEOMETRY, YEAR).inputs] == ["geometry", "since"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "identifier: Field required"),
        ('identifier = "x"\nouputs = ["url"]', "ouputs: Extra inputs are not permitted"),
        ('identifier = "x"\ntakes = ["line"]', "takes.0: Input should be 'polygon' or 'point'"),
        ('identifier = "x"\n[geometry]\nform = "wkt"', "geometry.form: Input should be"),
        ('identifier = "x"\n[start]\nform = "literal"', "start.identifier: Field required"),
        (
            'identifier = "x"\n[[literals]]\nidentifier = "geometry"\nvalue = 1',
            "an input is named twice: geometry",
        ),
        (
            'identifier = "x"\n[end]\nidentifier = "e"\nform = "literal"\nmime_type = "text/plain"',
            "a literal has no mime_type",
        ),
        ("identifier = ", "cannot be read"),
    ],
)
def test_a_file_that_describes_no_process_is_told_in_one_paragraph(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        process_named(own(tmp_path, text))
    assert "\n" not in str(refused.value)
    assert "mine.toml" in str(refused.value)


def test_an_unknown_process_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no process WIT.*wit, wofs-drill, fractional-cover-drill"):
        process_named("WIT")
    with pytest.raises(BadInput, match=r"none\.toml cannot be read"):
        process_named(str(tmp_path / "none.toml"))


def test_a_fingerprint_changes_with_what_is_sent_and_with_nothing_else(tmp_path: Path) -> None:
    first = process_named(own(tmp_path, OWN)).fingerprint
    assert process_named(own(tmp_path, OWN + "\n# as before")).fingerprint == first
    assert process_named(own(tmp_path, OWN.replace("files.example.org", "other.example.org"))).fingerprint == first
    assert process_named(own(tmp_path, OWN.replace("value = 30", "value = 10"))).fingerprint != first
    assert len({process.fingerprint for process in BUILT_IN.values()}) == len(BUILT_IN)
