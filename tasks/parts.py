"""Optional parts of an installation: whether they are there, and how to get them."""

from importlib.util import find_spec

from tasks.errors import PartMissing


def need_dask() -> None:
    """Make sure that Prefect's task runner for Dask is installed.

    Raises:
        PartMissing: it is not.
    """
    if find_spec("prefect_dask") is None:
        raise PartMissing(
            "The export of tiles on Dask needs prefect-dask, which is not installed. Run: pip install "
            "'overlander[dask]'. `overlander tile export` does without, in processes of one machine."
        )
