"""How each state of a polygon's unit of work looks on maps and pages, and what it means in words.

Most polygons are drawn too small for a hatch, so colour alone tells any two states apart, and each of them
from paper, also to people who do not see red, green or blue (a test holds every pair to that).
"""

from collections.abc import Mapping
from typing import Final

from tasks.report.palette import Look

UNIT_LOOKS: Final[dict[str, Look]] = {
    "done": Look("#146b58", "", "The job succeeded and its outputs are known.", home=True),
    "pending": Look("#ead2a6", "", "It is not sent yet."),
    "submitting": Look("#80d2fb", "", "It is being sent, and no answer has come yet."),
    "in_flight": Look("#2b74f0", "", "The service has the job; a run asks where it stands."),
    "uncertain": Look("#b986b8", "", "It was sent, and it is not known whether the service has received it."),
    "given_up": Look("#fa8420", "", "A time limit ran out while the service had the job, which may still end."),
    "failed": Look("#5c0526", "", "It was refused or it failed for good."),
}
"""Every state in the order in which reports list them: from home to most in need of a person.

Those that need nobody come by how far they are.
"""


def urgency(state: str) -> int:
    """Return how much a state is worth a look, as a number to sort by: 0 when home, most when it needs a person.

    Raises:
        KeyError: the state is none of `UNIT_LOOKS`.
    """
    return _URGENCY[state]


def every_state(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by state with every state, in the order of `UNIT_LOOKS`, also at 0.

    Raises:
        KeyError: a state is none of `UNIT_LOOKS`.
    """
    return dict.fromkeys(UNIT_LOOKS, 0) | {state: counts[state] for state in sorted(counts, key=urgency)}


_URGENCY: Final = {state: rank for rank, state in enumerate(UNIT_LOOKS)}
