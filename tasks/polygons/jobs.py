"""A job at a process service: what is sent, what is said of it, and the interface that all services share.

WPS 1.0.0 (`service.py`) is the first implementation; WPS 2.0 and OGC API - Processes answer the same four calls.
The remote status is in the words of OGC API - Processes, part 1, table 12.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol


class Remote(StrEnum):
    """What the service said last of a job."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


ENDED = frozenset({Remote.SUCCESSFUL, Remote.FAILED, Remote.DISMISSED})
"""After these the service says nothing new of a job."""


@dataclass(frozen=True)
class InputValue:
    """One input of a request.

    Attributes:
        identifier: as the process calls it.
        text: the value; for `complex` a whole document, such as one line of JSON.
        kind: `literal` or `complex`.
        mime_type: of a complex value; None sends no attribute, and the service takes its first format.
    """

    identifier: str
    text: str
    kind: Literal["literal", "complex"] = "complex"
    mime_type: str | None = None


@dataclass(frozen=True)
class Order:
    """One request to execute a process.

    Attributes:
        process: its identifier.
        inputs: in the order in which they are sent.
        outputs: which to ask for; none asks for all.
    """

    process: str
    inputs: tuple[InputValue, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """One output of a job that succeeded.

    Attributes:
        identifier: as the process calls it.
        kind: `literal` and `complex` hold their value in `value`; `reference` a URL; `bbox` four or more numbers
            separated by blanks, lower corner first.
        value: text.
        mime_type: of a complex value or a reference, where it was said.
    """

    identifier: str
    kind: Literal["literal", "complex", "reference", "bbox"]
    value: str
    mime_type: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """What one answer said of a job.

    Attributes:
        remote: where it stands.
        status_location: where to ask next; None when the service named none (then this is the last answer).
        percent: 0 to 100, where it was said; need not grow.
        message: the service's words, for people.
        outputs: of a job that succeeded.
        error_code: of a job that failed, as the service spells it, for example NoApplicableCode.
    """

    remote: Remote
    status_location: str | None = None
    percent: int | None = None
    message: str = ""
    outputs: tuple[Output, ...] = ()
    error_code: str = ""


class ProcessService(Protocol):
    """A service that executes processes. Every call is one attempt: none repeats a request that queues work."""

    @property
    def url(self) -> str:
        """Where it is, without a secret."""

    async def check(self, orders: Sequence[Order]) -> None:
        """Compare what would be sent with what the service describes; nothing is executed.

        Raises:
            BadInput: the process is unknown, an input is missing or not taken, or the URL is no such service.
            ServiceAway, ServiceTimedOut: it does not answer.
        """

    async def submit(self, order: Order) -> JobStatus:
        """Send one request.

        Raises:
            UncertainError: it was sent and no readable answer came: the job may be at work.
            ServiceAway: no connection was made, so nothing was sent.
            ThrottledError: refused for now, before acceptance; `retry_after_s` says for how long, where known.
            RequestRefused: refused for good before acceptance, with the service's code.
        """

    async def status(self, status_location: str) -> JobStatus:
        """Ask once where a job stands.

        Raises:
            UnreadableStatus: an answer that is no verdict: empty, cut short, not found, not XML.
            ServiceAway, ServiceTimedOut, ThrottledError: as ever.
            LocationRefused: the policy of where a status location may lead forbids it.
        """

    async def results(self, status: JobStatus) -> tuple[Output, ...]:
        """Return the outputs of a job that succeeded; for WPS 1.0.0 they came with the status."""

    async def cancel(self, status_location: str) -> bool:
        """Ask the service to dismiss a job; false where it offers no way to."""
