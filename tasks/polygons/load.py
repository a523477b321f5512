"""Load: bring a source's polygons into the ledger, once, whatever has become of them since."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

from tasks.ledger.polygons import LOT, Loader
from tasks.ledger.units import Own, retry, retryable
from tasks.polygons.features import read_features
from tasks.polygons.site import PolygonSite

MOST_NAMED = 20
"""Changed polygons are named up to this number; all are counted."""


@dataclass(frozen=True)
class Read:
    """What a source held.

    Attributes:
        features: polygons that were selected.
        new: of these, how many the campaign did not know.
        changed, changed_ids: whose geometry is another than before and was not accepted, the first ones by id.
    """

    features: int = 0
    new: int = 0
    changed: int = 0
    changed_ids: tuple[str, ...] = ()


def load(site: PolygonSite) -> Read:
    """Read the source as a stream and write into the ledger what it does not know yet.

    Raises:
        BadInput: the source cannot be read as far as that.
        OverlanderError: the ledger cannot be written.
    """
    work = site.campaign
    found = read_features(work.source, site.identity, work.selection, work.preparation, work.properties)
    loader = Loader(
        site.ledger, work.name, site.identity.field or "", site.series, accept_changes=work.accept_changes
    )
    read = Read()
    for lot in loader.load(found):
        site.selected.update(lot.units)
        changed = () if work.accept_changes else lot.changed
        read = Read(
            features=read.features + lot.new + lot.same + len(lot.changed),
            new=read.new + lot.new,
            changed=read.changed + len(changed),
            changed_ids=(*read.changed_ids, *changed)[:MOST_NAMED],
        )
        if site.stopping.is_set():
            break
    return read


def retryable_units(site: PolygonSite, owns: Collection[Own]) -> int:
    """Return how many of the run's units came to some ends and can be sent again."""
    with site.ledger.read() as ledger:
        return sum(retryable(ledger, lot, owns) for lot in _lots(site))


def retry_units(site: PolygonSite, owns: Collection[Own]) -> int:
    """Have the run's units that came to some ends sent again, from the first attempt on; return how many."""
    return sum(site.ledger.write(partial(retry, wanted=lot, owns=owns), site.lease) for lot in _lots(site) if owns)


def _lots(site: PolygonSite) -> Iterator[list[int]]:
    selected = sorted(site.selected)
    for start in range(0, len(selected), LOT):
        yield selected[start : start + LOT]
