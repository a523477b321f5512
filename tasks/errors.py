"""What can go wrong, by class of failure: the class decides whether a retry helps.

Exceptions of httpx, the Cassandra driver, SQLAlchemy and the operating system become one of these once, in
the module that owns the border, and nowhere else. Each holds one paragraph for a person: what happened, to
what, and what to do.

    OverlanderError
    ├── BadInput          what was asked for makes no sense            exit 2
    │   └── OutsideRegion
    ├── TransientError    the same call may succeed later              exit 1
    │   ├── ServiceAway
    │   ├── ServiceTimedOut
    │   ├── ThrottledError   the service asks for less
    │   ├── RefusedForNow    a service in trouble refused a request; nothing is at work
    │   ├── UnreadableStatus an answer that is no verdict
    │   └── LedgerBusy       other processes were in the way of a change, which was undone
    ├── PermanentError    repeating it changes nothing                 exit 1
    │   ├── CredentialsRefused
    │   ├── SchemaMismatch
    │   ├── LedgerUnusable
    │   ├── OutputUnusable
    │   ├── PartMissing
    │   ├── JobsFail         the service fails whatever it is sent
    │   ├── RequestRefused   the service refuses this request for good
    │   └── LocationRefused  an address that a service named and the policy forbids
    ├── UncertainError    it may or may not have happened              exit 1
    └── LeaseHeld         somebody else is at work on this             exit 3
        └── LeaseLost
"""

from typing import ClassVar


class OverlanderError(Exception):
    """A failure that a person can act on; `str()` of it is the paragraph they read."""

    exit_status: ClassVar[int] = 1


class BadInput(OverlanderError):
    """A tile, window, template, file or flag that cannot be meant."""

    exit_status = 2


class OutsideRegion(BadInput):
    """A point or an index that lies on none of the region's tiles."""


class TransientError(OverlanderError):
    """The same call may succeed later; retrying it is right where it is safe."""


class ServiceAway(TransientError):
    """Nothing answers at the address, or too little of the cluster does."""


class ServiceTimedOut(TransientError):
    """No answer within the client's limit."""


class ThrottledError(TransientError):
    """The service says that it has too much to do; `retry_after_s` is for how long, where it says that."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedForNow(TransientError):
    """A service in trouble refused a request before accepting it: nothing is at work; a few tries are right."""


class UnreadableStatus(TransientError):
    """A service's answer about a job is empty, cut short, not found or no status document: no verdict."""


class LedgerBusy(TransientError):
    """Other processes kept the ledger locked, or wrote the same: nothing was changed."""


class PermanentError(OverlanderError):
    """Repeating the call changes nothing; a person has to."""


class CredentialsRefused(PermanentError):
    """The user name or password is wrong, or the user may not do this."""


class SchemaMismatch(PermanentError):
    """The keyspace, table or a column is not as expected."""


class LedgerUnusable(PermanentError):
    """The ledger is newer than this program, not a ledger, or on a disk where it would not be safe."""


class OutputUnusable(PermanentError):
    """Files cannot be written there."""


class PartMissing(PermanentError):
    """An optional part, memory or a download is missing on this machine."""


class JobsFail(PermanentError):
    """A service fails whatever it is sent: sending more would be work in vain."""


class RequestRefused(PermanentError):
    """A service refuses a request before accepting it; `code` is its exception code, as InvalidParameterValue.

    `of_unit` tells that this one is at fault (too large, say) and not every request of the run.
    """

    def __init__(self, message: str, code: str, *, of_unit: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.of_unit = of_unit


class LocationRefused(PermanentError):
    """A service named an address that its policy of where requests may go forbids."""


class UncertainError(OverlanderError):
    """The call may or may not have taken effect."""


class LeaseHeld(OverlanderError):
    """Another run is at work on the same tile."""

    exit_status = 3


class LeaseLost(LeaseHeld):
    """Another run has taken over what this one was at work on."""
