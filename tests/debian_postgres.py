"""A Postgres from Debian's packages, for Prefect's server: it wants pg_trgm, which the one from PyPI has not."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@contextmanager
def debian_postgres() -> Iterator[str]:
    """Give the URL of an empty database, as asyncpg takes it; its server is gone after the block."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("Needs a Postgres with pg_trgm: apt install postgresql postgresql-contrib")
    binaries = found[-1].parent
    with TemporaryDirectory(prefix="overlander-postgres-") as name:  # a short path: sockets' names are limited
        folder = Path(name)
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root's
        if user:
            shutil.chown(folder, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses=", "start")
        try:
            yield f"postgresql+asyncpg://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")
