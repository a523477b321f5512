"""The plan of the scripted WPS: how long jobs take, and what goes wrong with which of them.

The JSON is documented in `deployments.sandbox.scripted_wps`; here it is read and checked.
"""

import random
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from deployments.sandbox.wps_documents import Prefix

Moment = Literal["execute", "job", "poll"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Span = Annotated[
    tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]],
    BeforeValidator(lambda given: (given, given) if isinstance(given, int | float) else given),
]
_ANSWERS = {"reset", "slow_s", "html", "status", "empty", "cut"}
_MOMENTS: dict[Moment, set[str]] = {
    "execute": _ANSWERS | {"busy", "refuse"},
    "job": {"stays", "fails", "at_once", "duration_s", "queue_s", "vanishes_after", "second_location", "location"}
    | {"prefix", "paused", "no_percent", "output_bytes", "reference"},
    "poll": _ANSWERS | {"missing"},
}
_WHOM = {"when", "jobs", "geometry", "every", "offset", "share", "every_answer", "times", "queued", "retry_after"}


class Trouble(BaseModel):
    """What goes wrong, at which moment, and with whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Moment
    jobs: frozenset[int] | None = None
    geometry: str | None = None
    every: int | None = Field(default=None, ge=1)
    offset: int = Field(default=0, ge=0)
    share: float | None = Field(default=None, ge=0, le=1)
    every_answer: int | None = Field(default=None, ge=1)
    times: int | None = Field(default=None, ge=1)

    reset: Literal["before", "after"] | None = None
    slow_s: Positive | None = None
    html: int | None = Field(default=None, ge=200, le=599)
    status: int | None = Field(default=None, ge=400, le=599)
    retry_after: str | None = None
    queued: bool = False
    empty: bool = False
    cut: Literal["document", "connection"] | None = None
    busy: bool = False
    refuse: str | None = None
    missing: bool = False

    stays: Literal["accepted", "started"] | None = None
    fails: str | None = None
    at_once: bool = False
    duration_s: Span | None = None
    queue_s: Span | None = None
    vanishes_after: int | None = Field(default=None, ge=0)
    second_location: str | None = None
    location: str | None = None
    prefix: Prefix | None = None
    paused: bool = False
    no_percent: bool = False
    output_bytes: int | None = Field(default=None, ge=1)
    reference: Literal["href", "xlink:href"] | None = None

    @model_validator(mode="after")
    def _belongs_to_its_moment(self) -> Self:
        unset = {
            name for name in self.model_fields_set if getattr(self, name) is None or getattr(self, name) is False
        }
        given = self.model_fields_set - unset - _WHOM
        allowed = _MOMENTS[self.when]
        if not given:
            raise ValueError(f"a trouble of {self.when!r} needs one of {', '.join(sorted(allowed))}")
        if given - allowed:
            raise ValueError(f"{', '.join(sorted(given - allowed))} is no trouble of {self.when!r}")
        return self

    def strikes(self, index: int, geometry: str) -> bool:
        """Tell whether it concerns a unit, by its index in order of first arrival and its geometry's hash."""
        if self.jobs is not None and index not in self.jobs:
            return False
        if self.geometry is not None and self.geometry != geometry:
            return False
        if self.every is not None and index % self.every != self.offset % self.every:
            return False
        seed = f"{geometry} {self.when} {sorted(self.model_fields_set)}"
        return self.share is None or drawn((0, 1), seed) < self.share


class Plan(BaseModel):
    """How the scripted WPS behaves, and its troubles: of those that concern a request the first strikes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_s: Span = (0, 0)
    queue_s: Span = (0, 0)
    parallel: int | None = Field(default=None, ge=1)
    busy_beyond: int | None = Field(default=None, ge=0)
    prefix: Prefix = "wps"
    stored: bool = True
    troubles: tuple[Trouble, ...] = ()

    def changed(self, given: dict[str, Any]) -> "Plan":
        """Return the plan with what `given` names.

        Raises:
            ValueError: it makes no sense; the text says where.
        """
        return Plan.model_validate({**self.model_dump(exclude_defaults=True), **given})


def drawn(span: tuple[float, float], seed: str) -> float:
    """Return a number of the span, the same for the same seed."""
    low, high = span
    return low if low == high else random.Random(seed).uniform(low, high)  # noqa: S311
