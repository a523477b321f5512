"""The HTTP side of the sandbox's change-results service; its routes and plan stand in `change_results`.

Source: lcmap-changes (namespace lcmap.clownfish), endpoints.clj, results.clj, ticket.clj, algorithm.clj and
health.clj at f40d0a6. Its order of events is kept, faults included: nothing keeps two requests apart.
"""

import asyncio
import contextlib
import html
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from deployments.sandbox.answers import Answer, exception_body, in_thread, iso, proxy_page, refusal, response
from deployments.sandbox.cassandra import Node
from deployments.sandbox.plan import Plan, Trouble
from deployments.sandbox.records import Records
from deployments.sandbox.worker import Workers
from tasks.chips.grid import CHIP_M, Chip

_TABLE_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.1
_GRACE_S = 1  # slow answers still to come are not waited for
_SHIFT_X, _SHIFT_Y = 2415, -195  # data/chip-specs.json
_DEFINITION: Mapping[str, type] = {"algorithm": str, "enabled": bool, "inputs_url_template": str}
_TICKET = (
    "INSERT INTO results (chip_x, chip_y, algorithm, x, y, chip_update_requested, inputs_url) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PIXEL = "SELECT * FROM results WHERE chip_x = ? AND chip_y = ? AND algorithm = ? AND x = ? AND y = ?"
_CHIP = "SELECT * FROM results WHERE chip_x = ? AND chip_y = ? AND algorithm = ?"
_ALGORITHMS = "SELECT algorithm, enabled, inputs_url_template FROM algorithms"
_DEFINE = "INSERT INTO algorithms (algorithm, enabled, inputs_url_template) VALUES (?, ?, ?)"
_PUBLISH_FAILED = {
    "class": "class com.rabbitmq.client.AlreadyClosedException",
    "cause": None,
    "message": "connection is already closed due to connection error; cause: java.io.EOFException",
}
_TICKET_FAILED = {
    "class": "class com.datastax.driver.core.exceptions.WriteTimeoutException",
    "cause": None,
    "message": "Cassandra timeout during write query at consistency QUORUM "
    "(2 replica were required but only 1 acknowledged the write)",
}

_connections: dict[tuple[str, int], asyncio.Transport] = {}


def serve(folder: Path, node: Node, port: int, prefix: str) -> None:
    """Answer on 127.0.0.1 and work until SIGTERM.

    Args:
        folder: for the file of queue, plan and requests.
        node: where the table is.
        port: to listen on.
        prefix: path before every route, empty or with a slash at its beginning only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _session(node) as connected:
        service = _Service(Records(folder / "records.sqlite"), connected)
        uvicorn.run(
            service.application(prefix),
            host="127.0.0.1",
            port=port,
            http=_Connection,
            ws="none",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_S,
        )


@contextlib.contextmanager
def _session(node: Node) -> Iterator[Session]:
    """Yield a session that waits for each write: without TCP_NODELAY one of some kilobytes takes 45 ms."""
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        consistency_level=ConsistencyLevel.QUORUM,
        request_timeout=_TABLE_TIMEOUT_S,
    )
    cluster = Cluster(
        node.hosts,
        port=node.port,
        protocol_version=5,
        auth_provider=PlainTextAuthProvider(node.username, node.password),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=_TABLE_TIMEOUT_S,
        reconnection_policy=ConstantReconnectionPolicy(1.0, max_attempts=None),
        compression=False,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    try:
        yield cluster.connect(node.keyspace)
    finally:
        cluster.shutdown()


class _Coordinate(Convertor[str]):
    regex = "[0-9-]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Connection(H11Protocol):
    """Keeps the transport at hand, so that a connection can be closed without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            _connections[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.client:
            _connections.pop(self.client, None)


@dataclass(frozen=True)
class _Asked:
    """A pixel-route request: its number in the records, its trouble, and what the service answers."""

    number: int
    trouble: Trouble | None
    answer: Answer


class _Service:
    def __init__(self, records: Records, connected: Session) -> None:
        self._records = records
        self._session = connected
        self._pixel = connected.prepare(_PIXEL)
        self._chip = connected.prepare(_CHIP)
        self._ticket = connected.prepare(_TICKET)
        self._algorithms = connected.prepare(_ALGORITHMS)
        self._algorithm = connected.prepare(f"{_ALGORITHMS} WHERE algorithm = ?")
        self._define = connected.prepare(_DEFINE)

    def application(self, prefix: str) -> Starlette:
        register_url_convertor("coordinate", _Coordinate())
        routes: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
            ("/", in_thread(lambda _: Answer(200, None)), ["GET"]),
            ("/health", in_thread(self._health), ["GET"]),
            ("/algorithms", in_thread(self._all_algorithms), ["GET"]),
            ("/algorithm/{algorithm:path}", self._one_algorithm, ["GET", "PUT"]),
            ("/results/{algorithm:path}/{x:coordinate}/{y:coordinate}", self._results, ["GET"]),
            ("/results/{algorithm}/chip", in_thread(self._rows), ["GET"]),
            ("/sandbox/received", in_thread(lambda _: Answer(200, self._records.received())), ["GET"]),
            ("/sandbox/jobs", self._jobs, ["GET", "POST"]),
            ("/sandbox/plan", self._plan, ["GET", "PUT", "DELETE"]),
            ("/sandbox/pause", in_thread(lambda _: self._pause(True)), ["POST"]),
            ("/sandbox/resume", in_thread(lambda _: self._pause(False)), ["POST"]),
            ("/sandbox/purge", in_thread(lambda _: Answer(200, {"purged": self._records.purge()})), ["POST"]),
        ]
        if prefix:
            routes.append(("", routes[0][1], ["GET"]))
        application = Starlette(
            routes=[Route(f"{prefix}{path}", endpoint, methods=verbs) for path, endpoint, verbs in routes],
            lifespan=self._working,
            exception_handlers={HTTPException: refusal(prefix)},
        )
        application.router.redirect_slashes = False
        return application

    @contextlib.asynccontextmanager
    async def _working(self, _: Starlette) -> AsyncIterator[None]:
        workers = Workers(self._records, self._session)
        workers.start()
        yield
        await run_in_threadpool(workers.stop)
        self._records.close()

    def _health(self, _: Request) -> Answer:
        connections = sum(pool["open_count"] for pool in self._session.get_pool_state().values())
        db = f"DB connections: {connections}" if connections else "DB connection closed."
        checks = {
            name: {"healthy": healthy, "message": message, "error": None}
            for name, healthy, message in (
                ("db", connections > 0, db),
                ("event", True, "AMQP connection open."),
                ("search", True, "Elasticsearch works."),
            )
        }
        return Answer(200 if connections else 503, checks)

    def _all_algorithms(self, _: Request) -> Answer:
        return Answer(200, [row._asdict() for row in self._session.execute(self._algorithms)])

    async def _one_algorithm(self, request: Request) -> Response:
        algorithm = request.path_params["algorithm"]
        if request.method != "PUT":
            return await in_thread(lambda _: self._defined(algorithm))(request)
        body = await request.body()
        if request.headers.get("content-type") != "application/json":
            body = b"null"  # clownfish leaves it undecoded, and then cannot merge it
        return await in_thread(lambda _: self._put(algorithm, body))(request)

    def _defined(self, algorithm: str) -> Answer:
        found = self._session.execute(self._algorithm, (algorithm,)).one()
        return Answer(200, found._asdict()) if found else Answer(404, f"{algorithm} not found.")

    def _put(self, algorithm: str, body: bytes) -> Answer:
        given = json.loads(body)
        if not isinstance(given, dict):
            raise TypeError(f"{type(given).__name__} cannot be cast to a map")
        definition = {"algorithm": algorithm, **{_snake(key): value for key, value in given.items()}}
        if wrong := _schema_errors(definition):
            return Answer(403, wrong)
        if not definition["enabled"]:
            self._records.purge(definition["algorithm"])  # its queue is destroyed
        self._session.execute(self._define, [definition[key] for key in _DEFINITION])
        return Answer(202, {key: definition[key] for key in _DEFINITION})

    async def _results(self, request: Request) -> Response:
        algorithm, x, y = (request.path_params[name] for name in ("algorithm", "x", "y"))
        refresh = request.query_params.get("refresh", "").lower() == "true"
        asked = await run_in_threadpool(self._asked, algorithm, x, y, refresh)
        trouble = asked.trouble
        if trouble and trouble.slow_answer_s:
            due = time.monotonic() + trouble.slow_answer_s
            while (left_s := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left_s, _LOOK_EVERY_S))
                if await request.is_disconnected():
                    return Response()
        if trouble and trouble.drop and request.client:
            _connections[request.client.host, request.client.port].close()
            await asyncio.sleep(0)  # the protocol hears of it, and sends nothing
            return Response()
        status = trouble.html if trouble and trouble.html else asked.answer.status
        await run_in_threadpool(self._records.answered, asked.number, status)
        return proxy_page(status) if trouble and trouble.html else response(request, asked.answer)

    def _asked(self, algorithm: str, x_text: str, y_text: str, refresh: bool) -> _Asked:
        """Note the request, and do what it asks for unless a proxy is in the way."""
        try:
            x, y = int(x_text), int(y_text)
        except ValueError as error:
            number = self._records.receive(algorithm, None, refresh)
            return _Asked(number, None, Answer(500, exception_body(error)))
        chip = snap(x, y)
        number = self._records.receive(algorithm, chip, refresh)
        trouble = self._records.trouble(chip, "answer")
        if trouble and trouble.html and not trouble.queued:
            return _Asked(number, trouble, Answer(trouble.html, None))
        try:
            answer = self._scheduled(algorithm, x, y, chip, refresh)
        except Exception as error:  # noqa: BLE001 - whatever it is, clownfish answers with it
            answer = Answer(500, exception_body(error))
        return _Asked(number, trouble, answer)

    def _scheduled(self, algorithm: str, x: int, y: int, chip: Chip, refresh: bool) -> Answer:
        asked = {"x": x, "y": y, "algorithm": algorithm, "refresh": refresh}
        row = self._session.execute(self._pixel, (chip.x, chip.y, algorithm, x, y)).one()
        if row and row.result is not None and not refresh:
            return Answer(200, {**asked, **row._asdict()})
        definition = self._session.execute(self._algorithm, (algorithm,)).one()
        enabled = bool(definition and definition.enabled)
        asked |= {"algorithm-available": enabled, "source-data-available": True}
        if not enabled:
            return Answer(422, asked)
        if row and not refresh:
            return Answer(202, {**asked, **row._asdict()})

        trouble = self._records.trouble(chip, "publish")
        if trouble and trouble.error_before_publish:
            return Answer(500, _PUBLISH_FAILED)
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        inputs_url = _rendered(definition.inputs_url_template, {**asked, "now": iso(now)})
        # The job first and the ticket after it: if the table fails in between, the caller is told 500.
        self._records.publish(algorithm, chip, lost=bool(trouble and trouble.lost_job), wakes=True)
        if trouble and trouble.error_after_publish:
            return Answer(500, _TICKET_FAILED)
        ticket = {"chip_x": chip.x, "chip_y": chip.y, "algorithm": algorithm, "x": x, "y": y}
        ticket |= {"chip_update_requested": now, "inputs_url": inputs_url}
        self._session.execute(self._ticket, list(ticket.values()))
        return Answer(202, {**asked, **ticket})

    def _rows(self, request: Request) -> Answer:
        chip = snap(int(request.query_params["x"]), int(request.query_params["y"]))
        rows = self._session.execute(self._chip, (chip.x, chip.y, request.path_params["algorithm"]))
        return Answer(200, [row._asdict() for row in rows])

    async def _jobs(self, request: Request) -> Response:
        body = await request.body()
        return await in_thread(lambda _: self._queue(request.method, body))(request)

    def _queue(self, method: str, body: bytes) -> Answer:
        if method == "POST":
            try:
                given = json.loads(body)
                chip = snap(int(given["chip_x"]), int(given["chip_y"]))
                algorithm = str(given["algorithm"])
            except (ValueError, TypeError, KeyError) as error:
                return Answer(400, f"{type(error).__name__}: {error}; wanted algorithm, chip_x and chip_y")
            self._records.publish(algorithm, chip, wakes=False)
        return Answer(200, self._records.jobs())

    async def _plan(self, request: Request) -> Response:
        body = await request.body()
        return await in_thread(lambda _: self._planned(request.method, body))(request)

    def _planned(self, method: str, body: bytes) -> Answer:
        if method == "DELETE":
            self._records.set_plan(Plan(), count_anew=True)
        elif method == "PUT":
            try:
                given = json.loads(body)
                plan = self._records.plan.changed(given)
            except (ValueError, TypeError) as error:  # TypeError: no JSON object
                return Answer(400, str(error))
            self._records.set_plan(plan, count_anew="troubles" in given)
        return Answer(200, self._records.plan.as_json())

    def _pause(self, paused: bool) -> Answer:
        self._records.set_plan(self._records.plan.changed({"settings": {"paused": paused}}), count_anew=False)
        return Answer(200, self._records.plan.as_json())


def snap(x: int, y: int) -> Chip:
    """Return the chip that holds a point, by clownfish's own formula: CONUS only, and no limits."""
    return Chip(
        (x - _SHIFT_X) // CHIP_M * CHIP_M + _SHIFT_X,
        (y - _SHIFT_Y) // -CHIP_M * -CHIP_M + _SHIFT_Y,
    )


def _schema_errors(definition: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an algorithm's definition, as plumatic schema prints it."""
    wrong = {}
    for key, kind in _DEFINITION.items():
        if key not in definition:
            wrong[key] = "missing-required-key"
        elif not isinstance(definition[key], kind):
            java = {str: "String", bool: "Boolean"}[kind]
            wrong[key] = f"(not (instance? java.lang.{java} {json.dumps(definition[key])}))"
    wrong |= {key: "disallowed-key" for key in definition if key not in _DEFINITION}
    return f"{{{', '.join(f':{key} {what}' for key, what in wrong.items())}}}" if wrong else None


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()


def _rendered(template: str, values: Mapping[str, Any]) -> str:
    """Fill a Mustache template, as far as algorithms use them."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: html.escape(str(values.get(match[1], ""))), template or "")
