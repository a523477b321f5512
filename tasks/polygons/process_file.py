"""A process of one's own, described in a TOML file.

identifier = "my-drill"
takes = ["polygon"]                  # and "point"
outputs = ["table"]                  # to ask for; all when left away
allowed_hosts = ["files.example.org"]  # where its status locations may lead
max_request_bytes = 1000000

[geometry]
identifier = "aoi"
form = "geometry"                    # or "feature", or "feature-collection", as WIT takes it
mime_type = "application/geo+json"

[start]                              # left away by a process without dates
identifier = "from"
form = "literal"                     # or "timestamp", as WIT takes it

[end]
identifier = "to"
form = "literal"

[[literals]]
identifier = "resolution"
value = 30

[[complex]]
identifier = "parameters"
mime_type = "application/json"
value = { aggregate = 15 }           # JSON, or a text that is sent as it stands
"""

import tomllib
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from tasks.errors import BadInput
from tasks.polygons.jobs import InputValue
from tasks.polygons.pieces import Kind
from tasks.polygons.process import BUILT_IN, GeometryForm, GeometryInput, Process, TimeForm, TimeInput


def process_named(name: str) -> Process:
    """Return a built-in process by its name, or the one that a TOML file describes.

    Raises:
        BadInput: there is no such process or file, or the file describes none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if not name.endswith(".toml"):
        raise BadInput(
            f"There is no process {name}. Name one of {', '.join(BUILT_IN)}, or a .toml file of your own."
        )
    return read_process(Path(name))


def read_process(path: Path) -> Process:
    """Return the process that a TOML file describes; it is called as the file is.

    Raises:
        BadInput: it cannot be read, lacks something, or holds a name or value that means nothing here.
    """
    try:
        described = _Described.model_validate(tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'the whole'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise BadInput(f"The process in {path} is not described well: {faults}. Correct the file.") from None
    except (OSError, ValueError) as error:  # tomllib's own errors and undecodable text are ValueErrors
        raise BadInput(f"The process in {path} cannot be read: {error}. Correct the file or its name.") from None
    return described.process(path.stem)


class _Geometry(BaseModel, extra="forbid"):
    identifier: str = Field(default="geometry", min_length=1)
    form: GeometryForm = "feature-collection"
    mime_type: str | None = None


class _Time(BaseModel, extra="forbid"):
    identifier: str = Field(min_length=1)
    form: TimeForm = "timestamp"
    mime_type: str | None = None

    @model_validator(mode="after")
    def _literal_without_type(self) -> Self:
        if self.form == "literal" and self.mime_type:
            message = "a literal has no mime_type"
            raise ValueError(message)
        return self


class _Literal(BaseModel, extra="forbid"):
    identifier: str = Field(min_length=1)
    value: StrictBool | StrictInt | StrictFloat | StrictStr

    def input_value(self) -> InputValue:
        text = str(self.value).lower() if isinstance(self.value, bool) else str(self.value)
        return InputValue(self.identifier, text, kind="literal")


class _Complex(BaseModel, extra="forbid"):
    identifier: str = Field(min_length=1)
    value: StrictStr | dict[str, Any] | list[Any]
    mime_type: str | None = None

    def input_value(self) -> InputValue:
        text = self.value if isinstance(self.value, str) else orjson.dumps(self.value).decode()
        return InputValue(self.identifier, text, mime_type=self.mime_type)


class _Described(BaseModel, extra="forbid"):
    identifier: str = Field(min_length=1)
    takes: frozenset[Kind] = Field(default=frozenset({"polygon"}), min_length=1)
    outputs: tuple[str, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    max_request_bytes: int | None = Field(default=None, ge=1)
    geometry: _Geometry = _Geometry()
    start: _Time | None = None
    end: _Time | None = None
    literals: tuple[_Literal, ...] = ()
    complex: tuple[_Complex, ...] = ()

    @model_validator(mode="after")
    def _each_input_once(self) -> Self:
        named = [self.geometry, self.start, self.end, *self.literals, *self.complex]
        names = [one.identifier for one in named if one]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"an input is named twice: {', '.join(twice)}"
            raise ValueError(message)
        return self

    def process(self, name: str) -> Process:
        extra: tuple[_Literal | _Complex, ...] = (*self.literals, *self.complex)
        return Process(
            name,
            self.identifier,
            geometry=GeometryInput(**self.geometry.model_dump()),
            start=TimeInput(**self.start.model_dump()) if self.start else None,
            end=TimeInput(**self.end.model_dump()) if self.end else None,
            extra=tuple(one.input_value() for one in extra),
            outputs=self.outputs,
            kinds=self.takes,
            allowed_hosts=self.allowed_hosts,
            max_request_bytes=self.max_request_bytes,
        )
