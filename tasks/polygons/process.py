"""Processes: what each takes and gives, and the requests that are made of a geometry and an interval.

The built-in ones are those of opendatacube/datacube-wps 7d611fa, sent as its code reads them: the first line of
the geometry, one feature in it, and of a time only `properties.timestamp.date-time` (datacube_wps/processes).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from tasks.errors import BadInput
from tasks.polygons.intervals import Interval, wire_text
from tasks.polygons.jobs import InputValue, Order
from tasks.polygons.pieces import Kind

GeometryForm = Literal["feature-collection", "feature", "geometry"]
TimeForm = Literal["timestamp", "literal"]


@dataclass(frozen=True)
class GeometryInput:
    """The input that takes the geometry.

    Attributes:
        identifier: as the process calls it.
        form: a FeatureCollection with one feature, a Feature, or the bare geometry; one line of GeoJSON each.
        mime_type: None sends none, and the service takes its first format.
        always_properties: a feature without properties says `"properties":null`, as RFC 7946 has it.
    """

    identifier: str = "geometry"
    form: GeometryForm = "feature-collection"
    mime_type: str | None = None
    always_properties: bool = True


@dataclass(frozen=True)
class TimeInput:
    """An input that takes an end of the interval.

    Attributes:
        identifier: as the process calls it.
        form: `timestamp` is JSON with the moment in `properties.timestamp.date-time`, `literal` the moment itself.
        mime_type: of the JSON; None sends none.
    """

    identifier: str
    form: TimeForm = "timestamp"
    mime_type: str | None = None


@dataclass(frozen=True)
class Process:
    """A process at a service.

    Attributes:
        name: as a person calls it: `wit`.
        identifier: as the service calls it: `WIT`.
        geometry: the input for the geometry.
        start, end: the inputs for the interval; None for a process without.
        extra: further inputs, the same in each request.
        outputs: which to ask for; none asks for all.
        kinds: of geometries that it takes.
        allowed_hosts: where its status locations may lead, besides the service's own host.
        max_request_bytes: the service's limit of one request, where it is known.
    """

    name: str
    identifier: str
    geometry: GeometryInput = GeometryInput()
    start: TimeInput | None = None
    end: TimeInput | None = None
    extra: tuple[InputValue, ...] = ()
    outputs: tuple[str, ...] = ()
    kinds: frozenset[Kind] = frozenset({"polygon"})
    allowed_hosts: frozenset[str] = frozenset()
    max_request_bytes: int | None = None

    @property
    def needs_interval(self) -> bool:
        """Whether a request must say when."""
        return self.start is not None or self.end is not None

    @property
    def fingerprint(self) -> str:
        """Sha256 of all that shapes its requests: another one makes other units of work."""
        shape = asdict(self)
        for name in ("name", "kinds", "allowed_hosts", "max_request_bytes"):
            del shape[name]
        return hashlib.sha256(orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def check_interval(self, interval: Interval | None) -> None:
        """Refuse an interval that is missing or not taken.

        Raises:
            BadInput: one of both.
        """
        if self.needs_interval and interval is None:
            raise BadInput(f"The process {self.name} needs to know when. Give --interval 2010-01-01/2011-01-01.")
        if interval is not None and not self.needs_interval:
            raise BadInput(f"The process {self.name} takes no interval. Leave --interval away.")

    def order(
        self, geometry: str, interval: Interval | None, properties: Mapping[str, Any] | None = None
    ) -> Order:
        """Return the request for one geometry and one interval.

        Args:
            geometry: one line of GeoJSON in lon, lat.
            interval: None for a process that takes none.
            properties: of the feature; datacube-wps reads none.

        Raises:
            BadInput: the interval is missing or not taken.
        """
        self.check_interval(interval)
        inputs = [
            InputValue(
                self.geometry.identifier,
                _around(geometry, self.geometry, properties),
                mime_type=self.geometry.mime_type,
            )
        ]
        if interval is not None:
            ends = ((self.start, interval.start), (self.end, interval.end))
            inputs += [_time_value(taker, wire_text(moment)) for taker, moment in ends if taker]
        return Order(self.identifier, (*inputs, *self.extra), self.outputs)


def _around(geometry: str, taker: GeometryInput, properties: Mapping[str, Any] | None) -> str:
    if taker.form == "geometry":
        return geometry
    member = ""
    if properties is not None or taker.always_properties:
        values = None if properties is None else dict(properties)
        member = f',"properties":{orjson.dumps(values, default=str).decode()}'
    feature = f'{{"type":"Feature","geometry":{geometry}{member}}}'
    return feature if taker.form == "feature" else f'{{"type":"FeatureCollection","features":[{feature}]}}'


def _time_value(taker: TimeInput, moment: str) -> InputValue:
    if taker.form == "literal":
        return InputValue(taker.identifier, moment, kind="literal")
    timestamp = {"type": "string", "format": "date-time", "date-time": moment}
    text = orjson.dumps({"type": "object", "properties": {"timestamp": timestamp}}).decode()
    return InputValue(taker.identifier, text, mime_type=taker.mime_type)


def _datacube_wps(name: str, identifier: str, kind: Kind = "polygon", *, dates: bool = True) -> Process:
    """Return a process of datacube-wps; its pywps.cfg stores status documents on S3 and limits requests to 3 MB.

    PyWPS names the region's endpoint as their host (pywps/inout/storage/s3.py).
    """
    return Process(
        name,
        identifier,
        geometry=GeometryInput(always_properties=False),
        start=TimeInput("start") if dates else None,
        end=TimeInput("end") if dates else None,
        kinds=frozenset({kind}),
        allowed_hosts=frozenset({"s3.ap-southeast-2.amazonaws.com"}),
        max_request_bytes=3 * 1024 * 1024,
    )


BUILT_IN = {
    process.name: process
    for process in (
        _datacube_wps("wit", "WIT"),
        _datacube_wps("wofs-drill", "WOfSDrill", "point", dates=False),
        _datacube_wps("fractional-cover-drill", "FractionalCoverDrill"),
        _datacube_wps("mangrove-cover-drill", "Mangrove Cover Drill"),
    )
}
"""By name."""
