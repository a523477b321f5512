"""Plan: what a run would send, found out by reading the source; nothing is sent, and nothing kept of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.ledger.polygons import Loader, known_series
from tasks.ledger.store import Ledger
from tasks.polygons.campaign import PolygonCampaign
from tasks.polygons.features import Feature, read_features
from tasks.polygons.identity import Identity, identify
from tasks.settings import Settings, is_url


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        identity: what names the polygons.
        features, new, changed: polygons selected; of these not known yet; and with another geometry than before.
        intervals: jobs for each.
        to_send: requests that a run would send.
        problems: why some cannot be sent, and how many.
        vertices, largest_km2: of those that can.
    """

    identity: Identity
    intervals: int
    features: int = 0
    new: int = 0
    changed: int = 0
    to_send: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    vertices: int = 0
    largest_km2: float = 0.0


def plan_polygons(work: PolygonCampaign, settings: Settings) -> Plan:
    """Read a campaign's source and return what a run would do.

    Raises:
        BadInput: the source or its identity is not as the campaign says.
        OverlanderError: the ledger cannot be opened.
    """
    identity = identify(work.source, work.selection, work.id_field)
    plan = Plan(identity, intervals=len(work.interval_texts))
    found = read_features(work.source, identity, work.selection, work.preparation)
    with _ledger_at(settings.ledger_place) as ledger:
        with ledger.read() as connection:
            process = work.process
            series = known_series(
                connection, work.name, work.url, process.name, process.fingerprint, work.interval_texts
            )
        loader = Loader(ledger, work.name, identity.field or "", series, accept_changes=work.accept_changes)
        for lot in loader.foresee(_counted(found, plan)):
            plan.new += lot.new
            plan.changed += lot.changed
            plan.to_send += lot.to_send
    return plan


@contextmanager
def _ledger_at(place: Path | str) -> Iterator[Ledger]:
    """Open a ledger to look into; where there is no file yet, an empty one that is gone afterwards."""
    with TemporaryDirectory() as folder:
        is_new = not is_url(place) and not Path(place).exists()
        with Ledger.open(Path(folder) / "ledger.sqlite" if is_new else place) as ledger:
            yield ledger


def _counted(found: Iterator[Feature], plan: Plan) -> Iterator[Feature]:
    for feature in found:
        plan.features += 1
        if feature.problem:
            plan.problems[feature.problem] += 1
        else:
            plan.vertices += feature.vertices
            plan.largest_km2 = max(plan.largest_km2, feature.area_km2)
        yield feature
