"""The scripted plan of the sandbox's change-results service: its settings, and which chips misbehave how.

The JSON is documented in `deployments.sandbox.change_results`; here it is read and checked.
"""

import random
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.chips.grid import PIXELS, Chip

Moment = Literal["answer", "publish", "job"]
Position = Annotated[int, Field(ge=0, lt=PIXELS)]
Pixels = Annotated[int, Field(ge=1, lt=PIXELS)] | list[Position]

EVERY_CHIP = "*"
_LOOP_CRASHES_AT = 150
_APART = 500  # two passes of a chip lose different pixels, up to so many each


class Settings(BaseModel):
    """How service and worker behave towards every chip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels_per_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    worker_clock_offset_h: float = Field(default=0, ge=-24, le=24)
    queue_delay_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    workers: int = Field(default=1, ge=1, le=8)
    worker_algorithm: str | None = None
    short_results: bool = False
    crash_pause_s: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    paused: bool = False
    wakes_on_request: bool = False


class Trouble(BaseModel):
    """What goes wrong, at one of three moments: while answering, while publishing, or while working."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int | None = Field(default=None, ge=1)

    slow_answer_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    html: int | None = Field(default=None, ge=200, le=599)
    queued: bool = False
    drop: bool = False

    error_before_publish: bool = False
    error_after_publish: bool = False
    lost_job: bool = False

    rows_lost: Pixels | None = None
    same: bool = False
    failed_pixels: Pixels | None = None
    no_data: bool = False
    crash_at: Position | None = None
    crashes: int = Field(default=1, ge=1)
    crash_loop: bool = False
    never: bool = False
    other_version: str | None = Field(default=None, min_length=1)

    @property
    def moment(self) -> Moment:
        """When it strikes."""
        return self._moments()[0]

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        if len(self._moments()) != 1:
            raise ValueError(
                "a trouble needs fields of exactly one moment: slow_answer_s, html or drop; error_before_publish, "
                "error_after_publish or lost_job; or those of the worker. Give several troubles instead"
            )
        return self

    def _moments(self) -> list[Moment]:
        worker = (self.rows_lost, self.failed_pixels, self.crash_at, self.other_version)
        strikes: dict[Moment, bool] = {
            "answer": self.slow_answer_s is not None or self.html is not None or self.drop,
            "publish": self.error_before_publish or self.error_after_publish or self.lost_job,
            "job": self.no_data or self.crash_loop or self.never or any(field is not None for field in worker),
        }
        return [moment for moment, struck in strikes.items() if struck]

    def crashes_before(self, crashes: int) -> int | None:
        """Return the position at which the worker dies when it has died `crashes` times, None if it lives."""
        if self.crash_loop:
            return _LOOP_CRASHES_AT if self.crash_at is None else self.crash_at
        return self.crash_at if crashes < self.crashes else None

    def lost(self, chip: Chip, turn: int) -> frozenset[int]:
        """Return the positions whose rows are lost in the chip's pass number `turn`, from 0.

        A number means other pixels in each pass, unless `same`; never the first nor the last pixel.
        """
        if not isinstance(self.rows_lost, int):
            return frozenset(self.rows_lost or ())
        order = _shuffled(chip)
        start = 0 if self.same else turn * max(self.rows_lost, _APART)
        return frozenset(order[(start + number) % len(order)] for number in range(self.rows_lost))

    def failed(self, chip: Chip) -> frozenset[int]:
        """Return the positions that fail, the same in each pass, as a singular matrix does."""
        if self.no_data:
            return frozenset(range(PIXELS))
        if not isinstance(self.failed_pixels, int):
            return frozenset(self.failed_pixels or ())
        return frozenset(_shuffled(chip)[-self.failed_pixels :])


class Plan(BaseModel):
    """Settings, and the troubles of each chip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Settings = Settings()
    troubles: dict[str, list[Trouble]] = {}

    @field_validator("troubles")
    @classmethod
    def _keys_are_chips(cls, troubles: dict[str, list[Trouble]]) -> dict[str, list[Trouble]]:
        return {_key(text): listed for text, listed in troubles.items()}

    def as_json(self) -> dict[str, Any]:
        """Return it with every setting, and of each trouble what was given."""
        return {
            "settings": self.settings.model_dump(),
            "troubles": {
                key: [trouble.model_dump(exclude_defaults=True) for trouble in listed]
                for key, listed in self.troubles.items()
            },
        }

    def changed(self, given: dict[str, Any]) -> "Plan":
        """Return the plan with the settings that `given` names, and its troubles if it has any.

        Raises:
            ValueError: it makes no sense; the text says where.
        """
        merged = {**self.as_json(), **given}
        settings = given.get("settings", {})
        if isinstance(settings, dict):
            merged["settings"] = {**self.settings.model_dump(), **settings}
        return Plan.model_validate(merged)

    def of(self, chip: Chip, moment: Moment) -> list[tuple[str, int, Trouble]]:
        """Return key, number and trouble of all that may strike a chip, its own before every chip's."""
        return [
            (key, number, trouble)
            for key in (f"{chip.x},{chip.y}", EVERY_CHIP)
            for number, trouble in enumerate(self.troubles.get(key, ()))
            if trouble.moment == moment
        ]


def _key(text: str) -> str:
    if text.strip() == EVERY_CHIP:
        return EVERY_CHIP
    x, _, y = text.partition(",")
    try:
        return f"{int(x)},{int(y)}"
    except ValueError:
        raise ValueError(f"{text!r} names no chip: write chip_x,chip_y or *") from None


@lru_cache(maxsize=64)
def _shuffled(chip: Chip) -> list[int]:
    inner = range(1, PIXELS - 1)
    return random.Random(f"{chip.x},{chip.y}").sample(inner, len(inner))  # noqa: S311
