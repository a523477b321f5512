"""Services and their secrets, kept by the Prefect server as blocks: filled in once in the UI, used by name.

A block that is named stands for all settings of its service. Its values become settings of the process that
uses it, as if `OVERLANDER_*` variables held them; no parameter, log or artifact ever does.
"""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, TypeVar

import httpx
from prefect.blocks.core import Block
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import BeforeValidator, Field, HttpUrl, SecretStr, ValidationError, model_validator

from tasks.errors import BadInput, CredentialsRefused, OverlanderError, ServiceAway
from tasks.settings import CassandraSettings, Consistency, as_text, load_settings

_DOCUMENTATION = "https://docs.prefect.io/v3/concepts/blocks"

_Blank = BeforeValidator(lambda value: None if value in ("", []) else value)
"""The form in the UI sends what was left empty as an empty text."""


class ServiceBlock(Block):
    """What the blocks have in common: which settings their fields stand for."""

    _setting_prefix: ClassVar[str] = ""

    def as_environment(self) -> dict[str, str | None]:
        """Return the variables that the block's fields stand for; None for those that must not be set."""
        return {
            f"OVERLANDER_{self._setting_prefix}{name.upper()}": as_text(getattr(self, name))
            for name in type(self).model_fields
        }


class ChangeResultsService(ServiceBlock):
    """The HTTP service that queues chips for change detection.

    Example:
        Load a stored service:

        ```python
        from deployments.blocks import ChangeResultsService

        service = ChangeResultsService.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Change-Results Service"
    _block_type_slug = "change-results-service"
    _documentation_url = HttpUrl(_DOCUMENTATION)
    _setting_prefix: ClassVar[str] = "SERVICE_"

    url: str = Field(min_length=1, description="Base URL, for example http://service.example.org/v1/changes.")
    timeout_s: float = Field(default=60, gt=0, description="Limit of one answer, in seconds.")
    connect_timeout_s: float = Field(default=10, gt=0, description="Limit of connecting, in seconds.")
    interval_s: float = Field(default=0.1, ge=0, description="Pause between two requests, in seconds.")


class ResultsCassandra(ServiceBlock):
    """The Cassandra table that change detection writes its results to.

    Example:
        Load a stored cluster:

        ```python
        from deployments.blocks import ResultsCassandra

        cluster = ResultsCassandra.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Results Cassandra"
    _block_type_slug = "results-cassandra"
    _documentation_url = HttpUrl(_DOCUMENTATION)
    _setting_prefix: ClassVar[str] = "CASSANDRA_"

    hosts: list[str] = Field(min_length=1, description="Contact points, names or addresses.")
    port: int = Field(default=9042, ge=1, le=65535, description="Port of CQL, the same on every host.")
    username: Annotated[str | None, _Blank] = Field(
        default=None, description="User name; empty means no authentication."
    )
    password: Annotated[SecretStr | None, _Blank] = Field(default=None, description="Password of that user.")
    keyspace: str = Field(min_length=1, description="Keyspace that holds the results.")
    table: str = Field(default="results", description="Table of results, one partition a chip.")
    consistency: Consistency = Field(default="QUORUM", description="Consistency of every read.")
    local_datacenter: Annotated[str | None, _Blank] = Field(
        default=None, description="Prefer this datacenter's replicas."
    )
    tls: bool = Field(default=False, description="Encrypt the connections.")

    @model_validator(mode="after")
    def _whole(self) -> "ResultsCassandra":
        if self.username and not self.password:
            message = "password is empty, and a user name needs one"
            raise ValueError(message)
        return self


class ProcessService(ServiceBlock):
    """A WPS that runs processes on polygons.

    Example:
        Load a stored service:

        ```python
        from deployments.blocks import ProcessService

        service = ProcessService.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Process Service"
    _block_type_slug = "process-service"
    _documentation_url = HttpUrl(_DOCUMENTATION)
    _setting_prefix: ClassVar[str] = "WPS_"

    url: str = Field(min_length=1, description="URL of the WPS, without query.")
    username: Annotated[str | None, _Blank] = Field(default=None, description="User name; empty sends none.")
    password: Annotated[SecretStr | None, _Blank] = Field(default=None, description="Password of that user.")
    timeout_s: float = Field(default=60, gt=0, description="Limit of one answer, in seconds.")
    connect_timeout_s: float = Field(default=10, gt=0, description="Limit of connecting, in seconds.")

    @model_validator(mode="after")
    def _whole(self) -> "ProcessService":
        if self.username and not self.password:
            message = "password is empty, and a user name needs one"
            raise ValueError(message)
        return self


BLOCK_TYPES: tuple[type[ServiceBlock], ...] = (ChangeResultsService, ResultsCassandra, ProcessService)


def use_blocks(*, results: str | None = None, service: str | None = None, process: str | None = None) -> None:
    """Load the blocks that are named, here or by settings, and make their values settings of this process.

    Args:
        results: name of a `ResultsCassandra`; None takes OVERLANDER_RESULTS_BLOCK's, or none.
        service: name of a `ChangeResultsService`; None takes OVERLANDER_SERVICE_BLOCK's, or none.
        process: name of a `ProcessService`; None takes OVERLANDER_PROCESS_BLOCK's, or none.

    Network: the Prefect API, when a block is named.

    Raises:
        BadInput: there is no such block, or it is half filled.
        ServiceAway: the Prefect API does not answer.
        CredentialsRefused: it lets nobody in without other credentials.
    """
    settings = load_settings()
    named: Mapping[type[ServiceBlock], str | None] = {
        ResultsCassandra: results or settings.results_block,
        ChangeResultsService: service or settings.service_block,
        ProcessService: process or settings.process_block,
    }
    loaded = [_load(kind, name) for kind, name in named.items() if name]
    for block in loaded:
        for variable, value in block.as_environment().items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


def results_settings(block: str | None) -> CassandraSettings:
    """Return how to reach the results: as a `ResultsCassandra` says where one is named, else as is set.

    Unlike `use_blocks` this leaves the settings of the process as they are: several runs may share it.

    Network: the Prefect API, when a block is named.

    Raises:
        BadInput: as `use_blocks`, or a setting is wrong.
        ServiceAway, CredentialsRefused: as `use_blocks`.
    """
    settings = load_settings().cassandra
    if block is None:
        return settings
    found = _load(ResultsCassandra, block)
    return settings.model_copy(update={name: getattr(found, name) for name in ResultsCassandra.model_fields})


_Kind = TypeVar("_Kind", bound=ServiceBlock)


def _load(kind: type[_Kind], name: str) -> _Kind:
    what = f"{kind.__name__} block {name!r}"
    try:
        found = kind.load(name)
    except PrefectHTTPStatusError as error:
        raise _refused(what, error) from None
    except httpx.HTTPError as error:
        raise ServiceAway(
            f"The {what} cannot be read: Prefect's API does not answer ({type(error).__name__}). Start the server "
            "(`overlander server up`) or correct PREFECT_API_URL."
        ) from None
    except RuntimeError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        raise BadInput(
            f"The {what} is half filled: {_faults(error.__cause__)}. Fill it in in the Prefect UI, under Blocks."
        ) from None
    except ValueError:
        raise BadInput(
            f"The Prefect server has no {what}. Make it in the Prefect UI, under Blocks, or name another; "
            "`overlander deploy` makes its type known there."
        ) from None
    assert isinstance(found, kind)  # noqa: S101 - `load` is sync or async by its caller; here it is sync
    return found


def _refused(what: str, error: PrefectHTTPStatusError) -> OverlanderError:
    status = error.response.status_code
    if status in (401, 403):
        return CredentialsRefused(
            f"The {what} cannot be read: Prefect's API refuses (HTTP {status}). Set PREFECT_API_AUTH_STRING as "
            "the server has it."
        )
    return ServiceAway(f"The {what} cannot be read: Prefect's API answers HTTP {status}. Look into its log.")


def _faults(error: ValidationError) -> str:
    """Return what is wrong with a block's fields, without their values."""
    return "; ".join(
        ": ".join(
            part for part in ("_".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) if part
        )
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    )
