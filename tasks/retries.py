"""What every Prefect task of ours declares of retries, and what its log leaves out. Knows no Prefect itself."""

import logging
from typing import Any

from tasks.errors import TransientError


def is_transient(task: object, task_run: object, state: Any) -> bool:
    """Retry what may succeed later, and nothing else; for a task's `retry_condition_fn`."""
    del task, task_run
    return isinstance(state.result(raise_on_failure=False), TransientError)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop Prefect's warning, once a task run, that a timeout cannot interrupt a thread: `tasks.py` says so."""
    return "is running in a worker thread" not in str(record.msg)


logging.getLogger("prefect.task_runs").addFilter(_is_news)
