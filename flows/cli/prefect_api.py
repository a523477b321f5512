"""Which Prefect API is set, and whether it is one that this program can use; tried without importing Prefect."""

import base64
import json
import os
import tomllib
import urllib.error
import urllib.request
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path

from tasks.errors import BadInput, CredentialsRefused, ServiceAway


def prefect_api_set() -> str | None:
    """Return the API address that the environment or the user's Prefect profile sets, after trying it.

    Raises:
        ServiceAway: the address that is set does not answer.
        BadInput: what answers there is no Prefect API, or one of another version.
        CredentialsRefused: it lets nobody in without other credentials.
    """
    url = os.environ.get("PREFECT_API_URL") or _address_in_profile()
    if url is None:
        return None
    url = url.rstrip("/")
    _refuse_other_version(url, _version_at(url))
    return url


def _version_at(url: str) -> str:
    """Return the version of the Prefect server at an API address."""
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"PREFECT_API_URL is no address: {url}. It looks like http://127.0.0.1:4200/api.")
    request = urllib.request.Request(f"{url}/admin/version")  # noqa: S310 - the user's own setting
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the user's own setting
            found = json.loads(answer.read(1000))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise CredentialsRefused(
                f"Prefect's API at {url} refuses (HTTP {error.code}). Set PREFECT_API_AUTH_STRING as the server "
                "has it, user:password."
            ) from None
        if error.code >= 500:
            raise ServiceAway(
                f"Prefect's API at {url} answers HTTP {error.code}. Look into the server's log, or try again "
                "later."
            ) from None
        raise _no_api(url) from None
    except ValueError:  # no JSON
        raise _no_api(url) from None
    except (OSError, HTTPException) as error:
        raise ServiceAway(
            f"Prefect's API at {url} does not answer: {error}. Start it, correct PREFECT_API_URL, or unset that "
            "to use a local server."
        ) from error
    if not isinstance(found, str):
        raise _no_api(url)
    return found


def _no_api(url: str) -> BadInput:
    return BadInput(
        f"What answers at {url} is no Prefect API. PREFECT_API_URL ends with /api, as http://127.0.0.1:4200/api; "
        "unset it to use a local server."
    )


def _refuse_other_version(url: str, theirs: str) -> None:
    """Refuse a server of another minor version: fields and states differ, and runs would fail half way."""
    ours = version("prefect")
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise BadInput(
            f"The Prefect server at {url} is version {theirs}, and Overlander stands on {ours}. Install prefect "
            f"{theirs} here, or let the server be {ours}, or unset PREFECT_API_URL to use a local server."
        )


def _address_in_profile() -> str | None:
    """Return the API address in the user's active Prefect profile."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        profiles = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    address = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(address) if address else None
