"""What a WPS says that it offers, read, and compared with what would be sent.

GetCapabilities names the processes, DescribeProcess the inputs and outputs of one (OGC 05-007r7, 8 and 9).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.errors import BadInput, UnreadableStatus
from tasks.polygons import markup
from tasks.polygons.jobs import Order
from tasks.polygons.markup import Node

Kind = Literal["literal", "complex", "bbox"]
MOST_NAMES = 12
"""Names of processes in one error."""

_KINDS: dict[str, Kind] = {
    "LiteralData": "literal",
    "LiteralOutput": "literal",
    "ComplexData": "complex",
    "ComplexOutput": "complex",
    "BoundingBoxData": "bbox",
    "BoundingBoxOutput": "bbox",
}


@dataclass(frozen=True)
class Capabilities:
    """What GetCapabilities said: identifiers of processes, names of operations, and the version."""

    processes: tuple[str, ...]
    operations: frozenset[str]
    version: str


@dataclass(frozen=True)
class Put:
    """An input or an output of a process.

    Attributes:
        identifier: as the process calls it.
        kind: of its value.
        min_occurs: of an input; 0 is optional.
        mime_types: of a complex one, the default first.
    """

    identifier: str
    kind: Kind
    min_occurs: int = 1
    mime_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What DescribeProcess said of a process; whether it stores answers and gives status is None where unsaid."""

    identifier: str
    inputs: tuple[Put, ...]
    outputs: tuple[Put, ...]
    store_supported: bool | None = None
    status_supported: bool | None = None


def read_capabilities(body: bytes) -> Capabilities:
    """Read an answer to GetCapabilities.

    Raises:
        UnreadableStatus: it is none.
    """
    name, root = markup.read(body)
    if name != "Capabilities":
        raise UnreadableStatus(f"the answer is no capabilities document but <{name}>")
    offered = markup.children(markup.child(root, "ProcessOfferings"), "Process")
    operations = markup.children(markup.child(root, "OperationsMetadata"), "Operation")
    return Capabilities(
        tuple(markup.text(markup.child(one, "Identifier")) for one in offered),
        frozenset(markup.attribute(one, "name") or "" for one in operations),
        markup.attribute(root, "version") or "",
    )


def read_description(body: bytes, process: str) -> Description:
    """Read an answer to DescribeProcess for one process.

    Raises:
        UnreadableStatus: it does not describe it.
    """
    name, root = markup.read(body)
    described = markup.children(root, "ProcessDescription") if name == "ProcessDescriptions" else []
    for one in described:
        if markup.text(markup.child(one, "Identifier")) == process:
            return Description(
                process,
                tuple(_puts(markup.child(one, "DataInputs"), "Input")),
                tuple(_puts(markup.child(one, "ProcessOutputs"), "Output")),
                _truth(markup.attribute(one, "storeSupported")),
                _truth(markup.attribute(one, "statusSupported")),
            )
    raise UnreadableStatus(f"the answer does not describe {process} but is <{name}>")


def compare_processes(order: Order, offered: Capabilities, service: str) -> None:
    """Refuse an order for a process that the service does not offer, naming some that it does.

    Raises:
        BadInput: it offers none of that identifier.
    """
    if order.process in offered.processes:
        return
    names = ", ".join(offered.processes[:MOST_NAMES]) or "none"
    more = len(offered.processes) - MOST_NAMES
    raise BadInput(
        f"The service at {service} has no process {order.process}. It has: {names}"
        f"{f' and {more} more' if more > 0 else ''}. Correct --process, or check OVERLANDER_WPS_URL."
    )


def compare(order: Order, described: Description, service: str, *, stored: bool) -> None:
    """Refuse an order that its process would refuse, before anything is sent.

    Args:
        order: what would be sent.
        described: the process as the service describes it.
        service: its URL, for the error.
        stored: whether the answer is to be stored, with status; a synchronous one is not.

    Raises:
        BadInput: an input is missing, not taken or of another kind, an output is not given, or answers are not
            stored or have no status.
    """
    faults = [*_input_faults(order, described)]
    given = {put.identifier for put in described.outputs}
    faults += [f"it gives no output {name}" for name in order.outputs if name not in given]
    if faults:
        takes = ", ".join(f"{put.identifier}{'' if put.min_occurs else ' (optional)'}" for put in described.inputs)
        raise BadInput(
            f"The process {order.process} at {service} does not match: {'; '.join(faults)}. It takes "
            f"{takes or 'no input'} and gives {', '.join(sorted(given)) or 'no output'}. Nothing was sent; "
            "correct the process's profile."
        )
    if stored and False in (described.store_supported, described.status_supported):
        lacks = "store its answers" if described.store_supported is False else "say how far it is"
        raise BadInput(
            f"The process {order.process} at {service} does not {lacks}, so it cannot be followed. Run with "
            "--sync: each request then waits for its result."
        )


def _input_faults(order: Order, described: Description) -> Iterator[str]:
    taken = {put.identifier: put for put in described.inputs}
    sent = {given.identifier for given in order.inputs}
    for put in described.inputs:
        if put.min_occurs and put.identifier not in sent:
            yield f"the input {put.identifier} is missing"
    for given in order.inputs:
        known = taken.get(given.identifier)
        if known is None:
            yield f"it takes no input {given.identifier}"
        elif known.kind != given.kind:
            yield f"the input {given.identifier} is {known.kind}, not {given.kind}"
        elif given.mime_type and known.mime_types and _bare(given.mime_type) not in map(_bare, known.mime_types):
            formats = " or ".join(known.mime_types)
            yield f"the input {given.identifier} is taken as {formats}, not as {given.mime_type}"


def _puts(parent: Node, name: Literal["Input", "Output"]) -> Iterator[Put]:
    for one in markup.children(parent, name):
        element = next((element for element in _KINDS if markup.has(one, element)), "")
        yield Put(
            markup.text(markup.child(one, "Identifier")),
            _KINDS.get(element, "literal"),
            _count(markup.attribute(one, "minOccurs")),
            tuple(_mime_types(markup.child(one, element))),
        )


def _mime_types(value: Node) -> Iterator[str]:
    seen: set[str] = set()
    for formats in (markup.child(value, "Default"), markup.child(value, "Supported")):
        for one in markup.children(formats, "Format"):
            name = markup.text(markup.child(one, "MimeType"))
            if name and name not in seen:
                seen.add(name)
                yield name


def _count(text: str | None) -> int:
    return int(text) if text and text.strip().isdigit() else 1


def _truth(text: str | None) -> bool | None:
    return None if text is None else text.strip().lower() in ("true", "1")


def _bare(mime_type: str) -> str:
    return mime_type.partition(";")[0].strip().lower()
