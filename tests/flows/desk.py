"""A person's desk: where tests of the command put its ledger and its files, and how they run it."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from deployments.sandbox import cassandra

_ROOT = Path(__file__).parent.parent.parent


def variables_of(node: cassandra.Node) -> dict[str, str]:
    """Return the variables that name a Cassandra, for the user who may do anything."""
    return {
        "OVERLANDER_CASSANDRA_HOSTS": ",".join(node.hosts),
        "OVERLANDER_CASSANDRA_PORT": str(node.port),
        "OVERLANDER_CASSANDRA_USERNAME": node.username,
        "OVERLANDER_CASSANDRA_PASSWORD": node.password,
        "OVERLANDER_CASSANDRA_KEYSPACE": node.keyspace,
    }


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """Where one person works: an output folder, a ledger, and the `OVERLANDER_*` variables that name them."""

    folder: Path
    services: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The output folder; not there before something is written."""
        return self.folder / "out"

    @property
    def variables(self) -> dict[str, str]:
        """What the command finds in its environment."""
        own = {"OVERLANDER_OUT": self.out, "OVERLANDER_LEDGER": self.folder / "ledger.sqlite"}
        return {**self.services, **{name: str(path) for name, path in own.items()}}

    def run(self, *arguments: str, **changes: str | None) -> Ran:
        """Run the command in this process, with some variables changed, None for those that are not set."""
        from flows.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with (
            self.at_work(**changes),
            mock.patch.object(sys, "argv", ["overlander", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
        return Ran(status, out.getvalue(), err.getvalue())

    def start(self, *arguments: str, script: str = "", **changes: str | None) -> subprocess.Popen[str]:
        """Start the command as a process that leads a group of its own, after a script for the same process."""
        code = f"{script}\nfrom flows.cli.main import main\nmain()"
        with self.at_work(**changes):
            return subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def at_work(self, **changes: str | None) -> Iterator[None]:
        """Set this desk's variables for a while; whatever is set meanwhile is undone."""
        with mock.patch.dict(os.environ):
            for name in [name for name in os.environ if name.startswith("OVERLANDER_CASSANDRA_")]:
                del os.environ[name]
            for name, value in {**self.variables, **changes}.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            yield


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Read every file below a folder: its bytes, and when it was last written (ns)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
