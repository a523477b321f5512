"""Where the pages' templates are read, and the words that they may use.

Whatever a template is given stays text: everything is escaped that is not markup of our own.
"""

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from tasks.report.palette import ink_on


@cache
def template(name: str) -> jinja2.Template:
    """Return a template that lies beside this module."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader(__package__, "."),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        as_code=_as_code,
        as_link=_as_link,
        ink=ink_on,
        moment=_moment,
        number=_number,
        sha256=_sha256,
        spaced=_spaced,
    )
    return environment


def _as_code(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _as_link(path: str) -> str:
    # "./" keeps a file name with a colon from being read as an address.
    return "./" + quote(path)


def _moment(moment: datetime) -> str:
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{utc:%Y-%m-%d %H:%M} UTC"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _spaced(name: str) -> str:
    return name.replace("_", " ")
