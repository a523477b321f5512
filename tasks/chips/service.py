"""The change-results service: asks for a chip to be computed, and nothing is ever asked twice blindly.

A request queues ten thousand pixels of work that cannot be called back, and the service publishes the job before
it writes its ticket. So after a timeout, a reset or a 5xx nobody knows whether the job is queued: that is an
UncertainError, never a retry. Source: USGS-EROS/lcmap-changes, results.clj and ticket.clj.
"""

import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from tasks.chips.grid import Chip
from tasks.errors import BadInput, PermanentError, ServiceAway, ServiceTimedOut, ThrottledError, UncertainError
from tasks.settings import Settings
from tasks.urls import checked

Answer = Literal["queued", "ticketed", "present"]
"""202 the first time; 202 again, which queued nothing; 200, the upper left pixel has a result already."""


@dataclass(frozen=True)
class Receipt:
    """What the service answered to a request: what it did, and the `chip_update_requested` it gave, its clock."""

    answer: Answer
    update_requested: datetime | None


class WrongChip(PermanentError):
    """The service took a request for another chip than the one meant: its grid is another."""


class ChangeResults:
    """One pooled HTTP client for one service. Every method sends one request; none is repeated."""

    def __init__(self, url: str, timeout_s: float, connect_timeout_s: float) -> None:
        """Prepare a client; nothing is sent.

        Args:
            url: base URL, with its path prefix if the service has one.
            timeout_s: limit of reading, of writing and of waiting for a free connection.
            connect_timeout_s: limit of connecting.
        """
        self.url = checked(url, "OVERLANDER_SERVICE_URL").rstrip("/")
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s),
            headers={"Accept": "application/json"},
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, algorithm: str) -> None:
        """Make sure, without queueing anything, that this is the service and that it runs the algorithm.

        Raises:
            BadInput: the algorithm is unknown or disabled, or the URL leads elsewhere.
            ServiceAway, ServiceTimedOut: it does not answer.
            ThrottledError: it asks for fewer requests.
        """
        answer = self._look_up(f"algorithm/{quote(algorithm, safe=':')}")
        self._heed(answer)
        definition = _json(answer)
        if answer.is_server_error:
            raise ServiceAway(
                f"The change-results service at {self.url} is in trouble: asked for an algorithm it answered "
                f"{_described(answer)}. Run again when it is well."
            )
        if answer.status_code == httpx.codes.NOT_FOUND and isinstance(definition, str):
            raise BadInput(
                f"The service at {self.url} does not know the algorithm {algorithm}. It knows: {self._known()}. "
                "Check OVERLANDER_ALGORITHM."
            )
        if answer.status_code != httpx.codes.OK or not isinstance(definition, dict) or "enabled" not in definition:
            raise BadInput(
                f"{self.url} is not the change-results service: asked for an algorithm it answered "
                f"{_described(answer)}. Check OVERLANDER_SERVICE_URL; it must have the service's path prefix, "
                "such as /v1/changes."
            )
        if not definition["enabled"]:
            raise BadInput(
                f"The service at {self.url} has the algorithm {algorithm} disabled. Ask its operators to "
                "enable it."
            )

    def request(self, chip: Chip, algorithm: str, *, refresh: bool) -> Receipt:
        """Ask for a chip.

        Args:
            chip: whose upper left pixel names it.
            algorithm: as the service spells it.
            refresh: false does nothing for a chip that has a ticket; true queues the chip whatever is there.

        Raises:
            ServiceAway: no connection was made, so nothing was sent.
            UncertainError: it may or may not have been queued.
            WrongChip: it was taken for another chip.
            ThrottledError: there are too many requests; this one was not queued.
            PermanentError: the service refuses it.
        """
        url = f"{self.url}/results/{quote(algorithm, safe=':')}/{chip.x}/{chip.y}"
        try:
            answer = self._client.get(url, params={"refresh": "true" if refresh else "false"})
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise self._away(error) from error
        except httpx.HTTPError as error:
            raise UncertainError(
                f"Chip {chip.x},{chip.y} was asked for at {self.url}, but no answer came ({_words(error)}): the "
                "job may be queued or not. It is not asked for again until that is clear."
            ) from error
        return self._receipt(chip, answer)

    def _heed(self, answer: httpx.Response) -> None:
        """Raise when whatever stands before the service says that it gets too many requests."""
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return
        seconds = answer.headers.get("retry-after", "").strip()
        raise ThrottledError(
            f"{self.url} says that it gets too many requests: {_described(answer)}. Run again later, or with a "
            "longer OVERLANDER_SERVICE_INTERVAL_S.",
            float(seconds) if seconds.isascii() and seconds.isdigit() else None,
        )

    def _receipt(self, chip: Chip, answer: httpx.Response) -> Receipt:
        self._heed(answer)
        body = _json(answer)
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise PermanentError(
                f"The service at {self.url} does not run this algorithm (422 for chip {chip.x},{chip.y}): it is "
                "unknown or was disabled. Ask its operators."
            )
        if isinstance(body, dict) and "chip_x" in body and answer.is_success:
            if (body["chip_x"], body.get("chip_y")) != (chip.x, chip.y):
                raise WrongChip(
                    f"The service at {self.url} took the request for chip {chip.x},{chip.y} as one for chip "
                    f"{body['chip_x']},{body.get('chip_y')}: its grid is another, and what it computes is not "
                    "what this tile lacks. Check --region and OVERLANDER_SERVICE_URL."
                )
            update_requested = _moment(body.get("chip_update_requested"))
            if answer.status_code == httpx.codes.OK:
                return Receipt("present", update_requested)
            return Receipt("ticketed" if "result_ok" in body else "queued", update_requested)
        if answer.is_server_error or answer.is_success:
            raise UncertainError(
                f"Chip {chip.x},{chip.y} was asked for at {self.url}, which answered {_described(answer)}: the "
                "job may be queued or not. It is not asked for again until that is clear."
            )
        raise PermanentError(
            f"{self.url} refused the request for chip {chip.x},{chip.y}: {_described(answer)}. Check "
            "OVERLANDER_SERVICE_URL."
        )

    def _known(self) -> str:
        found = _json(self._look_up("algorithms"))
        names = (
            [str(one.get("algorithm")) for one in found if isinstance(one, dict)]
            if isinstance(found, list)
            else []
        )
        return ", ".join(names) or "none"

    def _look_up(self, path: str) -> httpx.Response:
        try:
            return self._client.get(f"{self.url}/{path}")
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def _away(self, error: httpx.HTTPError) -> ServiceAway | ServiceTimedOut:
        kind = ServiceTimedOut if isinstance(error, httpx.TimeoutException) else ServiceAway
        return kind(
            f"The change-results service at {self.url} does not answer: {_words(error)}. Check that it is up, and "
            "OVERLANDER_SERVICE_URL."
        )


class Requester:
    """The service that a run's settings name, asked for one algorithm's chips, one request at a time.

    Raises:
        BadInput: no service is set, or it is not the service, or does not run the algorithm.
        ServiceAway, ServiceTimedOut: it does not answer.
    """

    def __init__(self, settings: Settings, algorithm: str) -> None:
        if settings.service_url is None:
            raise BadInput(
                "No change-results service is set, so nothing can be requested. Set OVERLANDER_SERVICE_URL to its "
                "base URL with its path prefix."
            )
        self._algorithm = algorithm
        self._interval_s = settings.service_interval_s
        self._turn = threading.Lock()
        self._client = ChangeResults(
            settings.service_url, settings.service_timeout_s, settings.service_connect_timeout_s
        )
        self._client.check(algorithm)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def pause(self) -> None:
        """Let the pause between two requests go by; before a request is noted, so that few are ever in doubt."""
        with self._turn:
            time.sleep(self._interval_s)

    def send(self, chip: Chip, *, refresh: bool) -> Receipt:
        """Send one request; raises as `ChangeResults.request`."""
        return self._client.request(chip, self._algorithm, refresh=refresh)


def _json(answer: httpx.Response) -> Any:
    if "json" not in answer.headers.get("content-type", ""):
        return None
    try:
        return answer.json()
    except ValueError:
        return None


def _described(answer: httpx.Response) -> str:
    kind = answer.headers.get("content-type", "no content type").partition(";")[0]
    to = f" to {answer.headers['location']}" if answer.is_redirect and "location" in answer.headers else ""
    return f"{answer.status_code} {answer.reason_phrase}{to} ({kind})"


def _moment(text: object) -> datetime | None:
    """Return the service's ISO text as a naive datetime of its clock, to the millisecond."""
    if not isinstance(text, str) or not re.match(r"\d{4}-", text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    naive = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return naive.replace(microsecond=naive.microsecond // 1000 * 1000)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": .")
