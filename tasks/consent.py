"""Consent: a run that would start more than a handful of jobs says the cost, and a person has to agree."""

from tasks.errors import BadInput

HANDFUL = 100
"""Requests that a run sends without asking."""


class ConsentMissing(BadInput):
    """A run would start more work than a person has agreed to."""


def check_consent(requests: int, cost: str) -> None:
    """Make sure that a run to which nobody has agreed would not send more than a handful of requests.

    Args:
        requests: how many it would send.
        cost: what those are, in words: "2,500 chips, ...".

    Raises:
        ConsentMissing: it would send more.
    """
    if requests > HANDFUL:
        raise ConsentMissing(
            f"This run would request {cost}. Say --yes to agree, or --max-requests N to send at most N; nothing "
            "was requested."
        )
