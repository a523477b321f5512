"""A polygon campaign: what a run is about, as plain values."""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import BadInput
from tasks.polygons.intervals import Interval, parse_interval, split
from tasks.polygons.jobs import Order
from tasks.polygons.pieces import Preparation
from tasks.polygons.process import Process
from tasks.polygons.process_file import process_named
from tasks.polygons.rules import Concurrency, OnUncertain, Rules, rules_of
from tasks.polygons.selection import Selection, parse_bbox, read_ids
from tasks.polygons.service import wps_address
from tasks.polygons.source import Source
from tasks.settings import Settings, load_settings

EXAMPLE = '{"type":"Polygon","coordinates":[[[149.0,-35.0],[149.1,-35.0],[149.1,-35.1],[149.0,-35.0]]]}'
"""Stands for any geometry where a request is only compared with what a service describes."""


@dataclass(frozen=True)
class PolygonCampaign:
    """What a run is about: plain values, checked as far as that goes without the file and the service.

    Attributes:
        source, selection, id_field: which polygons, and what names them.
        preparation: how their geometries are made ready.
        properties: fields that are sent along.
        process, intervals: what is asked for of each; no interval for a process that takes none.
        url: of the service, without a secret.
        name: what people call the campaign.
        out: folder of its files.
        rules: limits of the dispatch.
        sync: whether each answer is the result.
        accept_changes: whether a geometry that changed under an old id is sent.
        started: when the run began, our clock.
    """

    source: Source
    selection: Selection
    id_field: str | None
    preparation: Preparation
    properties: tuple[str, ...]
    process: Process
    intervals: tuple[Interval, ...]
    url: str
    name: str
    out: Path
    rules: Rules = field(default_factory=Rules)
    sync: bool = False
    accept_changes: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def interval_texts(self) -> tuple[str, ...]:
        """As the ledger keeps them: one empty text for a process that takes none."""
        return tuple(interval.text for interval in self.intervals) or ("",)

    def orders(self) -> list[Order]:
        """Return a request for each interval, as a service's description is compared with."""
        return [self.process.order(EXAMPLE, interval) for interval in self.intervals or (None,)]


def campaign_name(source: Path | str, named: str | None = None) -> str:
    """Return what a campaign is called: as named, else the source's stem.

    Raises:
        BadInput: nothing is left of the name, or it could not be a folder.
    """
    name = named or Path(str(source).rpartition("!")[0] or str(source)).stem
    if not re.fullmatch(r"[\w .()+-]+", name) or name.strip(". ") != name:
        raise BadInput(
            f"{name!r} cannot name a campaign: its files go to a folder of that name. Say --campaign NAME with "
            "letters, digits, spaces and any of . _ + - ( )."
        )
    return name


def refuse_url_beside(block: str | None, url: str | None) -> None:
    """Refuse a URL beside a block: the block's user and password are meant for the block's own URL.

    Raises:
        BadInput: both are given.
    """
    if block and url:
        raise BadInput(
            f"A URL is given, and so is the block {block!r}, which stands for all settings of that service. Leave "
            "out the URL, or the block: OVERLANDER_PROCESS_BLOCK, or process_block in a run's form."
        )


def polygon_campaign_of(
    source: Path | str,
    *,
    process: str = "wit",
    interval: str | None = None,
    split_by: str | None = None,
    url: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    where: str | None = None,
    bbox: str | None = None,
    limit: int | None = None,
    ids: Path | None = None,
    id_field: str | None = None,
    split_multipolygons: bool = False,
    repair: bool = False,
    precision: int = 7,
    max_request_bytes: int | None = None,
    max_area_km2: float | None = None,
    properties: tuple[str, ...] = (),
    concurrency: Concurrency = None,
    sync: bool = False,
    no_progress_s: float | None = None,
    on_uncertain: OnUncertain | None = None,
    max_requests: int | None = None,
    accept_changes: bool = False,
    name: str | None = None,
    out: Path | None = None,
    settings: Settings | None = None,
) -> PolygonCampaign:
    """Return the campaign that a person means, checked as far as that goes without the file and the service.

    Raises:
        BadInput: unknown process, bad interval, box, list of ids or name, no URL.
    """
    settings = settings or load_settings()
    asked = process_named(process)
    span = None if interval is None else parse_interval(interval)
    asked.check_interval(span)
    if split_by is not None and span is None:
        raise BadInput(f"The process {asked.name} takes no interval to split. Leave --split away.")
    where_to = url or settings.wps_url
    if not where_to:
        raise BadInput("No WPS is set. Name it with --url or OVERLANDER_WPS_URL.")
    named = campaign_name(source, name)
    limits = [size for size in (max_request_bytes, asked.max_request_bytes) if size is not None]
    return PolygonCampaign(
        source=Source(source, layer, crs),
        selection=Selection(
            where=where,
            bbox=None if bbox is None else parse_bbox(bbox),
            limit=limit,
            ids=None if ids is None else read_ids(ids),
        ),
        id_field=id_field,
        preparation=Preparation(
            kinds=asked.kinds,
            precision=precision,
            split_multipolygons=split_multipolygons,
            repair=repair,
            max_request_bytes=min(limits, default=None),
            max_area_km2=max_area_km2,
        ),
        properties=properties,
        process=asked,
        intervals=() if span is None else split(span, split_by) if split_by else (span,),
        url=wps_address(where_to),
        name=named,
        out=(out or settings.out / named).absolute(),
        rules=replace(
            rules_of(settings, concurrency, sync=sync, no_progress_s=no_progress_s, most_requests=max_requests),
            on_uncertain=on_uncertain or settings.wps_on_uncertain,
        ),
        sync=sync,
        accept_changes=accept_changes,
    )
