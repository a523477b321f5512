"""What a user may set, and from where: flags > `OVERLANDER_*` > `overlander.toml` > defaults.

A flag of the command becomes an `OVERLANDER_*` variable of its process, so that worker processes see the
same. Secrets come from the environment only; their values are never printed.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from tasks.errors import BadInput

Consistency = Literal["ONE", "QUORUM", "ALL", "LOCAL_QUORUM", "LOCAL_ONE"]
SETTINGS_FILE = "overlander.toml"


class CassandraSettings(BaseModel, extra="forbid"):
    """How to reach the table of change results."""

    hosts: Annotated[list[str], NoDecode] = Field(default=[], description="Contact points.")
    port: int = Field(default=9042, ge=1, le=65535, description="Port of CQL, the same on every host.")
    username: str | None = Field(default=None, description="User name; none means no authentication.")
    password: SecretStr | None = Field(default=None, description="Password; from the environment only.")
    keyspace: str | None = Field(default=None, description="Keyspace that holds the results.")
    table: str = Field(default="results", description="Table of results, one partition a chip.")
    consistency: Consistency = Field(default="QUORUM", description="Of every read.")
    local_datacenter: str | None = Field(default=None, description="Prefer this datacenter's replicas.")
    request_timeout_s: float = Field(default=30, gt=0, description="Limit of one query or one page.")
    connect_timeout_s: float = Field(default=10, gt=0, description="Limit of opening a connection.")
    queries_in_flight: int = Field(
        default=4,
        ge=1,
        le=64,
        description="At most so many queries at once, all processes of a run together.",
    )
    tls: bool = Field(default=False, description="Encrypt the connections.")
    tls_ca: Path | None = Field(default=None, description="Certificates to trust, instead of the system's.")
    tls_certificate: Path | None = Field(default=None, description="Client certificate, PEM.")
    tls_key: Path | None = Field(default=None, description="Key of the client certificate, PEM.")
    tls_check_hostname: bool = Field(default=True, description="Whether a certificate must name its host.")

    @field_validator("hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _listed(value)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.username and not self.password:
            message = "a user name needs a password: set OVERLANDER_CASSANDRA_PASSWORD"
            raise ValueError(message)
        return self


class Settings(BaseSettings):
    """Every setting of Overlander."""

    model_config = SettingsConfigDict(
        env_prefix="OVERLANDER_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        toml_file=SETTINGS_FILE,
        extra="forbid",
    )

    cassandra: CassandraSettings = CassandraSettings()
    service_url: str | None = Field(default=None, description="Base URL of the change-results service.")
    wps_url: str | None = Field(default=None, description="URL of the WPS.")
    wps_ceiling: int = Field(default=8, ge=1, description="Jobs at the WPS at a time, unless told otherwise.")
    wps_attempts: int = Field(default=2, ge=1, description="Requests for one polygon whose job fails.")
    wps_on_uncertain: Literal["leave", "wait", "resend"] = Field(
        default="leave", description="What becomes of a polygon whose request may have arrived."
    )
    wps_poll_s: float = Field(default=2, gt=0, description="First look at a job, and the measure of later ones.")
    wps_accepted_limit_s: float = Field(
        default=3600, gt=0, description="A job stays accepted while no other one ends, at most."
    )
    wps_running_limit_s: float = Field(default=7200, gt=0, description="A job stays running, at most.")
    wps_total_limit_s: float = Field(default=14400, gt=0, description="From acceptance to a job's end, at most.")
    wps_username: str | None = Field(default=None, description="User name at the WPS; none sends none.")
    wps_password: SecretStr | None = Field(
        default=None, description="Password at the WPS; from the environment only."
    )
    wps_timeout_s: float = Field(default=60, gt=0, description="Limit of one answer of the WPS.")
    wps_connect_timeout_s: float = Field(default=10, gt=0, description="Limit of connecting to the WPS.")
    wps_allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default=[], description="Hosts beside its own that the WPS may name for status documents."
    )
    wps_max_body_bytes: int = Field(
        default=64 * 2**20, ge=2**10, description="Largest answer of the WPS that is read, in bytes."
    )
    algorithm: str | None = Field(
        default=None, description="Algorithm as the service spells it, for example lcmap-pyccd:2017.08.18."
    )
    out: Path = Field(default=Path("overlander-results"), description="Folder that exported chips go to.")
    results_block: str | None = Field(
        default=None, description="Prefect block that stands for all of OVERLANDER_CASSANDRA_*."
    )
    service_block: str | None = Field(
        default=None, description="Prefect block that stands for OVERLANDER_SERVICE_URL and its limits."
    )
    process_block: str | None = Field(
        default=None, description="Prefect block that stands for OVERLANDER_WPS_URL and its limits."
    )
    ledger: str | None = Field(
        default=None, description="The ledger: a SQLite file, or postgresql://user@host/database."
    )
    disk_outlives_worker: bool = Field(
        default=True, description="Whether files stay when the worker ends; if not, a ledger in a file is refused."
    )
    export_processes: int = Field(
        default=min(4, os.cpu_count() or 1), ge=1, le=64, description="Processes that write chips."
    )
    stall_after_s: float = Field(
        default=3600, gt=0, description="A chip whose farthest pixel has not moved for so long has stalled."
    )
    wait_limit_s: float = Field(
        default=14 * 86400, gt=0, description="A chip that only waits for longer needs a person."
    )
    quiet_after_s: float = Field(
        default=86400, gt=0, description="Waiting chips of which none has moved for so long are told of."
    )
    max_attempts: int = Field(default=3, ge=1, description="Requests for one chip, the first included.")
    max_outstanding: int = Field(
        default=2500, ge=1, description="Chips of all tiles asked for and not settled, at most."
    )
    service_timeout_s: float = Field(default=60, gt=0, description="Limit of one answer of the service.")
    service_connect_timeout_s: float = Field(default=10, gt=0, description="Limit of connecting to it.")
    service_interval_s: float = Field(default=0.1, ge=0, description="Pause between two requests to it.")
    poll_first_s: float = Field(default=5, gt=0, description="First interval between two looks at what is out.")
    poll_longest_s: float = Field(default=60, gt=0, description="Longest interval between two such looks.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; no .env, no secret files."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("wps_allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _listed(value)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.wps_username and not self.wps_password:
            message = "wps_username needs a password: set OVERLANDER_WPS_PASSWORD"
            raise ValueError(message)
        if self.ledger and "://" in self.ledger and not is_url(self.ledger):
            message = (
                "ledger is neither a file nor the address of a Postgres server, postgresql://user@host/database"
            )
            raise ValueError(message)
        return self

    @property
    def ledger_place(self) -> str:
        """Where the ledger is: as set, else a file under the user's state folder.

        Raises:
            BadInput: it would be a file that does not outlive the worker.
        """
        place = self.ledger or str(state_folder() / "ledger.sqlite")
        if not self.disk_outlives_worker and not is_url(place):
            raise BadInput(
                f"The ledger {place} would be lost with this worker's disk, and with it what was sent: it would "
                "be sent again. Set OVERLANDER_LEDGER to postgresql://user@host/database."
            )
        return place


def load_settings() -> Settings:
    """Read the settings from the environment and `overlander.toml` in the working directory.

    Raises:
        BadInput: one of them has a wrong type or range, or the file holds a secret or an unknown name.
    """
    try:
        _refuse_secrets_in_file()
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"{'_'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise BadInput(
            f"A setting is wrong: {faults}. Settings come from flags, from OVERLANDER_* variables and from "
            f"{SETTINGS_FILE}; correct it there."
        ) from None
    except SettingsError as error:
        raise BadInput(
            f"A variable of the environment cannot be read: {error}. Set each value under a name of its own, for "
            "example OVERLANDER_CASSANDRA_HOSTS."
        ) from None
    except (OSError, ValueError) as error:  # tomllib's own errors are ValueErrors
        raise BadInput(f"{SETTINGS_FILE} cannot be read: {error}. Correct the file or move it away.") from None


def is_url(place: Path | str) -> bool:
    """Tell whether a ledger's place is a server's and no file's; a driver that it names is passed over."""
    return re.match(r"postgres(ql)?(\+\w+)?:", str(place)) is not None


def as_variables(settings: Settings) -> dict[str, str]:
    """Return the `OVERLANDER_*` variables that give another process, in another folder, the same settings.

    What nobody set is left out, but for the output folder, whose default depends on the working directory.
    """
    set_ones = {name: getattr(settings, name) for name in settings.model_fields_set - {"cassandra"}}
    cassandra = settings.cassandra
    set_ones |= {f"cassandra_{name}": getattr(cassandra, name) for name in cassandra.model_fields_set}
    set_ones["out"] = settings.out
    if settings.ledger is not None and not is_url(settings.ledger):
        set_ones["ledger"] = Path(settings.ledger)
    values = {f"OVERLANDER_{name.upper()}": as_text(value) for name, value in set_ones.items()}
    folder = {"OVERLANDER_STATE_FOLDER": str(state_folder().absolute())}
    return folder | {name: value for name, value in values.items() if value is not None}


def as_text(value: object) -> str | None:
    """Return a setting's value as a variable holds it, secrets in clear and paths absolute; None for none."""
    match value:
        case None:
            return None
        case SecretStr():
            return value.get_secret_value()
        case list():
            return ",".join(map(str, value))
        case Path():
            return str(value.absolute())
        case _:
            return str(value)


def state_folder() -> Path:
    """Return the folder for what Overlander keeps between runs: ledger, sandbox, local server.

    `OVERLANDER_STATE_FOLDER`, else the platform's place for a user's state.
    """
    named = os.environ.get("OVERLANDER_STATE_FOLDER")
    return Path(named) if named else platformdirs.user_state_path("overlander")


def _refuse_secrets_in_file() -> None:
    in_file = TomlConfigSettingsSource(Settings)()
    cassandra = in_file.get("cassandra")
    held = ["CASSANDRA"] if isinstance(cassandra, dict) and "password" in cassandra else []
    held += ["WPS"] if "wps_password" in in_file else []
    for service in held:
        raise BadInput(
            f"{SETTINGS_FILE} holds a password. Take it out and set OVERLANDER_{service}_PASSWORD instead: "
            "files are copied, committed and mailed."
        )


def _listed(value: object) -> object:
    """Return the parts of a text that commas separate; anything else as it is."""
    return [one for part in value.split(",") if (one := part.strip())] if isinstance(value, str) else value
