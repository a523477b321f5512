"""How the sandbox's change-results service puts its answers: JSON, or HTML for whoever prefers it.

Source: lcmap-changes, endpoints.clj `respond-with` and middleware.clj `ex->resp`.
"""

import html
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>LCMAP Changes</title></head>"
    '<body><nav>LCMAP Changes</nav><pre id="debug">{entity}</pre></body></html>\n'
)
_PROXY_PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_PROXY_TITLES = {200: "Sign in to continue", 404: "404 Not Found", 502: "502 Bad Gateway"}


@dataclass(frozen=True)
class Answer:
    """A status and what is to be said, as JSON values and moments."""

    status: int
    body: Any


def in_thread(answer: Callable[[Request], Answer]) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint of a function that may block; what it raises is the answer, as JSON."""

    def work(request: Request) -> Response:
        try:
            return response(request, answer(request))
        except Exception as error:  # noqa: BLE001 - whatever it is, clownfish answers with it
            return response(request, Answer(500, exception_body(error)))

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(work, request)

    return endpoint


def refusal(prefix: str) -> Callable[[Request, Exception], Response]:
    """Make the answer to wrong paths and verbs; outside the prefix it is a proxy's."""

    def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
        if not f"{request.url.path}/".startswith(f"{prefix}/"):
            return proxy_page(error.status_code)
        refused = response(request, Answer(error.status_code, None))
        if allowed := (error.headers or {}).get("Allow"):
            refused.headers["Allow"] = ",".join(verb for verb in allowed.split(", ") if verb != "HEAD")
        return refused

    return refuse


def response(request: Request, answer: Answer) -> Response:
    """Put an answer as its asker prefers it; errors are JSON always."""
    if answer.status != 500 and _prefers_html(request.headers.get("accept", "")):
        entity = html.escape(json.dumps(answer.body, default=iso, indent=2), quote=False)
        return HTMLResponse(_PAGE.format(entity=entity), answer.status)
    content = json.dumps(answer.body, default=iso, separators=(",", ":"))
    return Response(content, answer.status, media_type="application/json")


def _prefers_html(accept: str) -> bool:
    quality = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, _, rest = part.partition(";")
        if kind.strip().lower() in quality:
            given = re.search(r"q\s*=\s*([01](?:\.\d+)?)", rest)
            quality[kind.strip().lower()] = float(given[1]) if given else 1.0
    return quality["text/html"] > quality["application/json"]


def proxy_page(status: int) -> Response:
    """Return what a proxy says in the service's stead."""
    return HTMLResponse(_PROXY_PAGE.format(title=_PROXY_TITLES.get(status, str(status))), status)


def exception_body(error: Exception) -> dict[str, Any]:
    """Return what clownfish says of an exception."""
    kind = type(error)
    cause = error.__cause__ and str(error.__cause__)
    return {"class": f"class {kind.__module__}.{kind.__qualname__}", "cause": cause, "message": str(error)}


def iso(moment: datetime) -> str:
    """Return what Joda prints: milliseconds and a Z. The driver's moments are UTC without saying so."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
