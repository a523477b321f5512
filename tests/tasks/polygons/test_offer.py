"""What a WPS says it offers is read and compared with what would be sent, before anything is sent."""

from dataclasses import replace

import pytest

from tasks.errors import BadInput, UnreadableStatus
from tasks.polygons.jobs import InputValue, Order
from tasks.polygons.offer import (
    Capabilities,
    Description,
    Put,
    compare,
    compare_processes,
    read_capabilities,
    read_description,
)

SERVICE = "http://wps.example.org/wps"
CAPABILITIES = b"""<?xml version="1.0"?><!-- PyWPS 4.8.1 -->
<wps:Capabilities service="WPS" version="1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0"
    xmlns:ows="http://www.opengis.net/ows/1.1">
  <ows:OperationsMetadata><ows:Operation name="GetCapabilities"/><ows:Operation name="Execute"/>
  </ows:OperationsMetadata>
  <wps:ProcessOfferings>
    <wps:Process wps:processVersion="0.4"><ows:Identifier>WIT</ows:Identifier></wps:Process>
    <wps:Process><ows:Identifier> Mangrove Cover Drill </ows:Identifier></wps:Process>
  </wps:ProcessOfferings>
</wps:Capabilities>"""
DESCRIPTION = b"""<wps:ProcessDescriptions xmlns:wps="http://www.opengis.net/wps/1.0.0"
    xmlns:ows="http://www.opengis.net/ows/1.1" service="WPS" version="1.0.0">
  <ProcessDescription storeSupported="True" statusSupported="False"><ows:Identifier>WIT</ows:Identifier>
    <DataInputs>
      <Input minOccurs="1" maxOccurs="1"><ows:Identifier>geometry</ows:Identifier>
        <ComplexData maximumMegabytes="1"><Default><Format><MimeType>application/vnd.geo+json</MimeType></Format>
          </Default><Supported><Format><MimeType>application/vnd.geo+json</MimeType></Format>
          <Format><MimeType>application/json</MimeType></Format></Supported></ComplexData></Input>
      <Input minOccurs="0"><ows:Identifier>days</ows:Identifier><LiteralData><AnyValue/></LiteralData></Input>
      <Input><ows:Identifier>area</ows:Identifier><BoundingBoxData/></Input>
    </DataInputs>
    <ProcessOutputs><Output><ows:Identifier>url</ows:Identifier><LiteralOutput/></Output>
      <Output><ows:Identifier>series</ows:Identifier><ComplexOutput/></Output></ProcessOutputs>
  </ProcessDescription>
</wps:ProcessDescriptions>"""
WIT = Description(
    "WIT",
    (
        Put("geometry", "complex", 1, ("application/vnd.geo+json", "application/json")),
        Put("start", "complex"),
        Put("days", "literal", 0),
    ),
    (Put("url", "literal"),),
    store_supported=True,
    status_supported=True,
)
ORDER = Order("WIT", (InputValue("geometry", "{}"), InputValue("start", "{}")), ("url",))


def refused(order: Order, described: Description = WIT, *, stored: bool = True) -> str:
    """What a user is told."""
    with pytest.raises(BadInput) as told:
        compare(order, described, SERVICE, stored=stored)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_processes_and_operations_are_read() -> None:
    assert read_capabilities(CAPABILITIES) == Capabilities(
        ("WIT", "Mangrove Cover Drill"), frozenset({"GetCapabilities", "Execute"}), "1.0.0"
    )


def test_one_process_alone_is_read_as_one() -> None:
    alone = CAPABILITIES.replace(
        b"<wps:Process><ows:Identifier> Mangrove Cover Drill </ows:Identifier></wps:Process>", b""
    )
    assert read_capabilities(alone).processes == ("WIT",)


def test_a_service_without_processes_has_none() -> None:
    assert read_capabilities(b'<Capabilities version="1.0.0"/>') == Capabilities((), frozenset(), "1.0.0")


@pytest.mark.parametrize("body", [b"", b"<html/>", b"<WMS_Capabilities/>", b"hello"])
def test_what_is_no_capabilities_document_is_not_read_as_one(body: bytes) -> None:
    with pytest.raises(UnreadableStatus):
        read_capabilities(body)


def test_inputs_outputs_and_what_is_supported_are_read() -> None:
    assert read_description(DESCRIPTION, "WIT") == Description(
        "WIT",
        (
            Put("geometry", "complex", 1, ("application/vnd.geo+json", "application/json")),
            Put("days", "literal", 0),
            Put("area", "bbox", 1),
        ),
        (Put("url", "literal"), Put("series", "complex")),
        store_supported=True,
        status_supported=False,
    )


def test_what_a_description_does_not_say_is_not_made_up() -> None:
    body = DESCRIPTION.replace(b'storeSupported="True" statusSupported="False"', b"")
    described = read_description(body, "WIT")
    assert (described.store_supported, described.status_supported) == (None, None)


def test_another_process_is_no_description_of_ours() -> None:
    with pytest.raises(UnreadableStatus, match="does not describe WOfSDrill"):
        read_description(DESCRIPTION, "WOfSDrill")


def test_an_order_that_matches_passes() -> None:
    compare(ORDER, WIT, SERVICE, stored=True)
    compare(ORDER, replace(WIT, store_supported=None, status_supported=None), SERVICE, stored=True)
    typed = InputValue("geometry", "{}", mime_type="application/JSON; charset=utf-8")
    compare(Order("WIT", (typed, ORDER.inputs[1])), WIT, SERVICE, stored=True)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (Order("WIT", ORDER.inputs[:1]), "the input start is missing"),
        (Order("WIT", (*ORDER.inputs, InputValue("aggregate", "1", "literal"))), "takes no input aggregate"),
        (Order("WIT", (*ORDER.inputs, InputValue("days", "1"))), "the input days is literal, not complex"),
        (Order("WIT", (InputValue("geometry", "", mime_type="text/xml"), ORDER.inputs[1])), "not as text/xml"),
        (replace(ORDER, outputs=("csv",)), "gives no output csv"),
    ],
)
def test_an_order_that_does_not_match_is_refused_with_what_the_process_takes(order: Order, why: str) -> None:
    told = refused(order)
    assert why in told
    assert "geometry, start, days (optional)" in told


@pytest.mark.parametrize("lack", [{"store_supported": False}, {"status_supported": False}])
def test_a_process_that_cannot_be_followed_needs_sync(lack: dict[str, bool]) -> None:
    described = replace(WIT, **lack)  # type: ignore[arg-type]
    assert "--sync" in refused(ORDER, described)
    compare(ORDER, described, SERVICE, stored=False)


def test_an_unknown_process_is_refused_with_a_few_that_there_are() -> None:
    offered = Capabilities(tuple(f"process {number}" for number in range(40)), frozenset(), "1.0.0")
    with pytest.raises(BadInput, match="no process WIT") as told:
        compare_processes(ORDER, offered, SERVICE)
    assert "process 0, process 1" in str(told.value)
    assert "and 28 more" in str(told.value)
    assert "process 39" not in str(told.value)
