"""What a run does because others look after it: it can be found, and keeps nothing where nothing stays."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.states import Completed

from tasks.errors import BadInput, OverlanderError
from tasks.settings import is_url


def tag_run(words: Iterable[str]) -> None:
    """Add tags to the run that calls this, so that `tag:H05V03` finds it in the UI, however it was started."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = sorted({*context.flow_run.tags, *words})
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=tags)


def ended(message: str, summary: dict[str, Any]) -> State[dict[str, Any]]:
    """Return the last state of a run that came to its end, named by the exit status in its summary."""
    name = {0: "Completed", 3: "Waiting", 4: "NeedsAttention"}[summary["exit_status"]]
    return Completed(name=name, message=message, data=summary)


def refuse_fleeting(**places: Path | str | None) -> None:
    """Refuse relative paths in a run that a worker started: its working directory goes when it ends.

    Args:
        places: paths by the settings that name them, `OVERLANDER_OUT` for example; a ledger's URL is none.

    Raises:
        BadInput: one of them is relative.
    """
    if deployment.id is None:
        return
    for setting, path in places.items():
        if path is not None and not is_url(path) and not Path(path).is_absolute():
            raise BadInput(
                f"{path} is no absolute path, and a run that a worker starts has a working directory of its own "
                f"that goes when it ends. Set {setting} for the worker to an absolute path on a disk that stays."
            )


def _is_no_traceback_of_ours(record: logging.LogRecord) -> bool:
    """Drop what Prefect's engine logs about an error whose paragraph is the run's last state already."""
    return not (record.exc_info and isinstance(record.exc_info[1], OverlanderError))


for _name in ("prefect.flow_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_is_no_traceback_of_ours)
