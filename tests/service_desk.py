"""The sandbox's change-results service as tests use it: one algorithm of their own, its plan, what it received."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import httpx

from tasks.chips.grid import Chip

PATIENCE_S = 60.0
QUICK = {
    "STALL_AFTER_S": "60",
    "POLL_FIRST_S": "0.1",
    "POLL_LONGEST_S": "0.3",
    "SERVICE_INTERVAL_S": "0",
}
"""Settings of a person in a hurry; `OVERLANDER_` stands before each."""


@dataclass(frozen=True)
class Service:
    """The service, asked about one algorithm."""

    url: str
    algorithm: str

    def enable(self, enabled: bool = True) -> None:
        """Define the algorithm; disabled, its queue is destroyed."""
        definition = {"enabled": enabled, "inputs_url_template": "http://localhost/{{x}}/{{y}}"}
        self._call("PUT", f"/algorithm/{self.algorithm}", definition)

    def plan(self, troubles: dict[Chip | str, list[dict[str, Any]]] | None = None, **settings: Any) -> None:
        """Change settings, and with troubles replace all of them."""
        plan: dict[str, Any] = {"settings": settings}
        if troubles is not None:
            plan["troubles"] = {_named(chip): listed for chip, listed in troubles.items()}
        self._call("PUT", "/sandbox/plan", plan)

    def received(self, chip: Chip | None = None) -> list[dict[str, Any]]:
        """Return the requests for the algorithm, or for one chip of it, in order."""
        found = [one for one in self._call("GET", "/sandbox/received") if one["algorithm"] == self.algorithm]
        return [one for one in found if chip in (None, Chip(one["chip_x"], one["chip_y"]))]

    def refreshes(self, chip: Chip | None = None) -> list[bool]:
        """Return the flags of those requests."""
        return [one["refresh"] for one in self.received(chip)]

    def jobs(self, chip: Chip | None = None) -> list[dict[str, Any]]:
        """Return the jobs published for the algorithm, or for one chip of it, in order."""
        found = [one for one in self._call("GET", "/sandbox/jobs") if one["algorithm"] == self.algorithm]
        return [one for one in found if chip in (None, Chip(one["chip_x"], one["chip_y"]))]

    def somebody_else_asks(self, chip: Chip) -> None:
        """Ask for a chip as another client of the service does."""
        self._call("GET", f"/results/{self.algorithm}/{chip.x}/{chip.y}?refresh=true")

    def forget(self) -> None:
        """Drop what waits or is under way, and make the plan one without troubles."""
        self._call("POST", "/sandbox/purge")
        self._call("DELETE", "/sandbox/plan")
        self.plan(short_results=True)

    def _call(self, verb: str, path: str, body: object = None) -> Any:
        answer = httpx.request(verb, self.url + path, json=body, trust_env=False, timeout=30)
        answer.raise_for_status()
        return answer.json()


def _named(chip: Chip | str) -> str:
    return chip if isinstance(chip, str) else f"{chip.x},{chip.y}"


def await_that(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Return as soon as a condition holds."""
    until = monotonic() + within_s
    while not condition():
        assert monotonic() < until, "it has not come about"
        sleep(0.05)


def begin_anew(url: str) -> None:
    """Empty the service's queue, and take back whatever its plan says: what another test has left."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        client.post("/sandbox/purge").raise_for_status()
        client.delete("/sandbox/plan").raise_for_status()
        client.put("/sandbox/plan", json={"settings": {"short_results": True}}).raise_for_status()
