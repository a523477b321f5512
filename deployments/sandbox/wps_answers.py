"""What the scripted WPS answers; its routes and plan stand in `scripted_wps`."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from deployments.sandbox import wps_documents
from deployments.sandbox.http_peer import Reply, Request
from deployments.sandbox.wps_documents import Told, Value
from deployments.sandbox.wps_jobs import Job, Jobs, now
from deployments.sandbox.wps_orders import Asked, NoRequest, read_execute
from deployments.sandbox.wps_plan import Plan, Trouble

_PROCESSES = {process.identifier: process for process in wps_documents.PROCESSES}
_STORED = "application/xml; charset=utf-8"  # as a server of files says it
_BUSY = "Maximum number of processes in queue reached. Please try later."
_PAGE = b"<html>\r\n<head><title>%d</title></head>\r\n<body><center><h1>%d</h1></center></body>\r\n</html>\r\n"


class ScriptedWps:
    """The service while it is served; every method may be called from any thread."""

    def __init__(self, plan: Plan, url: str, status_url: str) -> None:
        self.url = url
        self._status_url = status_url
        self._jobs = Jobs(plan)

    def plan(self, **given: Any) -> Plan:
        """Change what is named of the plan, and count its troubles anew; return the plan."""
        self._jobs.plan = self._jobs.plan.changed(given)
        return self._jobs.plan

    def received(self, geometry: str | None = None) -> list[dict[str, Any]]:
        """Return the requests to execute, or those for one geometry by its hash; see `/sandbox/received`."""
        return [one for one in self._jobs.received() if geometry in (None, one["geometry"])]

    def jobs(self, geometry: str | None = None) -> list[dict[str, Any]]:
        """Return the jobs, or those of one geometry by its hash; see `/sandbox/jobs`."""
        return [one for one in self._jobs.jobs() if geometry in (None, one["geometry"])]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many requests and jobs there were of each geometry, by its hash; see `/sandbox/counts`."""
        return self._jobs.counts()

    def summary(self) -> dict[str, Any]:
        """Return counts; see `/sandbox/summary`."""
        return self._jobs.summary()

    def forget(self) -> None:
        """Forget jobs and requests; the plan stays."""
        self._jobs.forget()

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path == "/wps":
            return self._wps(request)
        if request.path.startswith("/outputs/"):
            return self._status(request.path.removeprefix("/outputs/").removesuffix(".xml"))
        if request.path.startswith("/elsewhere/"):
            return self._status("")
        if request.path.startswith("/sandbox/"):
            return self._sandbox(request)
        return _page(404)

    def _wps(self, request: Request) -> Reply:
        if request.method == "POST":
            return self._execute(request.body)
        asked = request.query.get("request", "").lower()
        if request.query.get("service", "").lower() != "wps":
            return _refused("MissingParameterValue", "service", "service")
        if asked == "getcapabilities":
            return Reply(body=wps_documents.capabilities(self.url), content_type="text/xml")
        if asked == "describeprocess":
            wanted = [name for name in request.query.get("identifier", "").split(",") if name]
            if not wanted:
                return _refused("MissingParameterValue", 'Missing parameter value "identifier"', "identifier")
            if unknown := [name for name in wanted if name not in _PROCESSES and name.lower() != "all"]:
                return _refused("InvalidParameterValue", f"Unknown process {unknown[0]}", "identifier")
            everything = any(name.lower() == "all" for name in wanted)
            names = list(_PROCESSES) if everything else wanted
            described = wps_documents.descriptions(
                [_PROCESSES[name] for name in names], stored=self._jobs.plan.stored
            )
            return Reply(body=described, content_type="text/xml")
        return _refused("OperationNotSupported", f"Unknown request {asked}", asked)

    def _execute(self, body: bytes) -> Reply:
        try:
            asked = read_execute(body)
        except NoRequest as error:
            return _refused(error.code, str(error), error.locator)
        if asked.process not in _PROCESSES:
            self._jobs.note(asked, "refused")
            return _refused("InvalidParameterValue", f"Unknown process '{asked.process}'", "Identifier")
        for name in _PROCESSES[asked.process].inputs:
            if name not in asked.inputs:
                self._jobs.note(asked, "refused")
                return _refused("MissingParameterValue", name, name)
        index, trouble = self._jobs.arrival(asked)
        if trouble and (refusal := _refusal(trouble)):
            outcome, reply = refusal
            self._jobs.note(asked, outcome)
            return reply
        if self._jobs.is_full():
            self._jobs.note(asked, "busy")
            return _refused("ServerBusy", _BUSY)
        return self._accepted(asked, index, trouble)

    def _accepted(self, asked: Asked, index: int, trouble: Trouble | None) -> Reply:
        job = self._jobs.begin(asked, index)
        self._jobs.note(asked, "accepted", job)
        if not asked.stored:
            if math.isinf(job.ends_at):
                return Reply(ends="reset", after_s=3600)
            job.end_seen_at = job.ends_at
            told = self._told(job, job.ends_at, None)
            return Reply(body=wps_documents.execute_response(told, self.url), after_s=job.ends_at - now())
        location = job.traits.get("location")
        first = job.ends_at if job.traits.get("at_once") else -math.inf
        told = self._told(job, first, location if location is not None else self._location(job))
        reply = _troubled(trouble, Reply(body=wps_documents.execute_response(told, self.url)))
        if job.traits.get("at_once") and reply.status == 200 and reply.ends == "whole":
            job.end_seen_at = now()
        return reply

    def _status(self, identifier: str) -> Reply:
        job, trouble = self._jobs.poll(identifier)
        if job is None:
            return _page(404)
        vanishes_after = job.traits.get("vanishes_after")
        if (trouble and trouble.missing) or (vanishes_after is not None and job.polls > vanishes_after):
            return _page(404)
        second = job.traits.get("second_location")
        if second == "elsewhere":
            second = self._location(job).replace("/outputs/", "/elsewhere/")
        moment = now()
        told = self._told(job, moment, second if second is not None else self._location(job))
        if trouble is None and job.end_seen_at is None and job.ends_at <= moment:
            job.end_seen_at = moment
        document = wps_documents.execute_response(told, self.url)
        return _troubled(trouble, Reply(body=document, content_type=_STORED))

    def _told(self, job: Job, moment: float, location: str | None) -> Told:
        traits, process = job.traits, job.asked.process
        prefix = traits.get("prefix") or self._jobs.plan.prefix
        if moment < job.starts_at:
            text, percent = f"PyWPS Process {process} accepted", 0
            status = "ProcessAccepted"
        elif moment < job.ends_at:
            text = "PyWPS Process started"
            percent = 0 if math.isinf(job.ends_at) else _percent(job, moment)
            status = "ProcessPaused" if traits.get("paused") else "ProcessStarted"
        elif (failure := traits.get("fails")) is not None:
            return Told(process, "ProcessFailed", failure, None, location, prefix=prefix)
        else:
            text = f"PyWPS Process {process} finished"
            return Told(process, "ProcessSucceeded", text, None, location, _outputs(job), prefix)
        return Told(process, status, text, None if traits.get("no_percent") else percent, location, prefix=prefix)

    def _location(self, job: Job) -> str:
        return f"{self._status_url}/{job.identifier}.xml"

    def _sandbox(self, request: Request) -> Reply:
        asked = request.path.removeprefix("/sandbox/")
        listed: Mapping[str, Callable[[], Any]] = {
            "received": self._jobs.received,
            "jobs": self._jobs.jobs,
            "counts": self._jobs.counts,
            "summary": self._jobs.summary,
        }
        if asked in listed:
            return _json(listed[asked]())
        if asked == "forget":
            self._jobs.forget()
            return _json(self._jobs.summary())
        if asked != "plan":
            return _page(404)
        if request.method == "DELETE":
            self._jobs.plan = Plan()
        elif request.method == "PUT":
            try:
                self.plan(**json.loads(request.body))
            except (ValueError, TypeError) as error:  # TypeError: no JSON object
                return _json(str(error), 400)
        return _json(self._jobs.plan.model_dump(mode="json", exclude_defaults=True))


def _refusal(trouble: Trouble) -> tuple[str, Reply] | None:
    """Return outcome and answer if the trouble keeps the request from being taken on."""
    if trouble.busy:
        return "busy", _refused("ServerBusy", _BUSY)
    if trouble.refuse:
        return "refused", _refused(trouble.refuse, "as the plan says", "", trouble.status or 400)
    if trouble.reset == "before":
        return "reset", Reply(ends="reset")
    if (trouble.status or trouble.html) and not trouble.queued:
        return str(trouble.status or trouble.html), _troubled(trouble, Reply())
    return None


def _troubled(trouble: Trouble | None, reply: Reply) -> Reply:
    """Return the answer as the trouble makes it."""
    if trouble is None:
        return reply
    if trouble.status or trouble.html:
        after = (("Retry-After", trouble.retry_after),) if trouble.retry_after is not None else ()
        return _page(trouble.status or trouble.html or 0, after)
    if trouble.reset:
        return Reply(ends="reset", after_s=trouble.slow_s or 0)
    body = reply.body
    if trouble.empty:
        body = b""
    elif trouble.cut == "document":
        body = body[: len(body) // 2]
    ends = "cut" if trouble.cut == "connection" else reply.ends
    return Reply(reply.status, body, reply.content_type, reply.headers, trouble.slow_s or 0, ends)


def _outputs(job: Job) -> list[Value]:
    """Return what the process gives: WIT a URL, the drills two URLs and JSON with CSV inside."""
    base = f"s3://sandbox-results/{job.asked.process.lower()}/{job.identifier}/{job.identifier}"
    length = job.traits.get("output_bytes")
    if job.asked.process == "WIT":
        url = f"{base}.snappy.parquet"
        url += "x" * max(0, (length or 0) - len(url))
        attribute = job.traits.get("reference")
        return [Value("url", "reference", url, attribute) if attribute else Value("url", "literal", url)]
    rows = ["time,wet", "2010-01-01T00:00:00Z,0.25", "2010-01-17T00:00:00Z,0.5"]
    rows += ["2010-02-02T00:00:00Z,0.75"] * ((length or 0) // 26)
    member = {"type": "csv", "name": job.asked.process, "data": "\n".join(rows) + "\n"}
    return [
        Value("image", "literal", f"{base}.svg"),
        Value("url", "literal", f"{base}.html"),
        Value("timeseries", "complex", json.dumps(member)),
    ]


def _percent(job: Job, moment: float) -> int:
    return min(99, int(100 * (moment - job.starts_at) / max(job.ends_at - job.starts_at, 1e-9)))


def _refused(code: str, text: str, locator: str = "", status: int = 400) -> Reply:
    return Reply(status, wps_documents.exception_report(code, text, locator))


def _page(status: int, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, _PAGE % (status, status), "text/html", headers)


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json")
