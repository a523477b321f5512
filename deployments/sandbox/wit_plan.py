"""The plan of the sandbox's real WPS: how long jobs take and which fail; JSON documented in `pywps`."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.sandbox.wps_plan import Span, drawn
from tasks.files import write_if_changed


class Trouble(BaseModel):
    """What goes wrong with the jobs of some geometries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    geometry: str | None = None
    share: float | None = Field(default=None, ge=0, le=1)
    process: str | None = None
    times: int | None = Field(default=None, ge=1)

    fails: bool | str = False
    dies: bool = False
    duration_s: Span | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.fails and not self.dies and self.duration_s is None:
            raise ValueError("a trouble needs fails, dies or duration_s")
        return self

    def strikes(self, process: str, geometry: str, attempt: int) -> bool:
        """Tell whether it concerns the n-th job, from 1, of a geometry and interval."""
        if self.process not in (None, process) or self.geometry not in (None, geometry):
            return False
        if self.times is not None and attempt > self.times:
            return False
        seed = f"{geometry} {sorted(self.model_fields_set)}"
        return self.share is None or drawn((0, 1), seed) < self.share


class Plan(BaseModel):
    """How long jobs take, and their troubles; all that concern a job strike, the first of each kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_s: Span = (0.5, 1.5)
    troubles: tuple[Trouble, ...] = ()

    def changed(self, given: dict[str, Any]) -> "Plan":
        """Return the plan with what `given` names.

        Raises:
            ValueError: it makes no sense; the text says where.
        """
        return Plan.model_validate({**self.model_dump(exclude_defaults=True), **given})


def load(file: Path) -> Plan:
    """Return the plan of a file; without one that without troubles."""
    return Plan.model_validate_json(file.read_bytes()) if file.exists() else Plan()


def save(file: Path, plan: Plan) -> None:
    """Write the plan, whole or not at all: jobs that start meanwhile read it."""
    write_if_changed(file, plan.model_dump_json(exclude_defaults=True).encode())
