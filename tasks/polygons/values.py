"""Outputs' values: short ones go into the ledger, long ones into files beside it."""

import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from tasks.files import write_if_changed
from tasks.ledger.units import KeptOutput
from tasks.polygons.jobs import Output


async def keep_outputs(given: Sequence[Output], unit: int, folder: Path, longest: int) -> list[KeptOutput]:
    """Write long values to files; return the outputs as the ledger keeps them, in the service's order.

    Args:
        given: of one job.
        unit: whose.
        folder: for the files; made when the first is written.
        longest: characters of a value that the ledger keeps.

    Raises:
        OutputUnusable: a file cannot be written.
    """
    kept = []
    for number, output in enumerate(given):
        if len(output.value) <= longest:
            kept.append(KeptOutput(output))
            continue
        path = (folder / _name(unit, number, output)).absolute()
        await anyio.to_thread.run_sync(write_if_changed, path, output.value.encode())
        kept.append(KeptOutput(output, str(path)))
    return kept


def _name(unit: int, number: int, output: Output) -> str:
    """Return a file's name: the unit and the output, with nothing of the service's that a path could mean."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", output.identifier)[:40]
    kind = (output.mime_type or "").partition(";")[0].strip()
    suffix = ".json" if kind.endswith("+json") else mimetypes.guess_extension(kind) or ".txt"
    return f"{unit}-{number}-{plain}{suffix}"
