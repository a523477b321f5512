"""XML as services really write it: read by local name, whatever the prefixes, entities refused."""

from collections import defaultdict
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers.expat import ExpatError

import xmltodict

from tasks.errors import UnreadableStatus

Node = dict[str, Any] | str | None
"""An element: attributes as `@name`, text as `#text`, children by name; only its text when it has nothing else."""


def read(body: bytes) -> tuple[str, Node]:
    """Return the local name of a document's root, and the root.

    Raises:
        UnreadableStatus: it is empty, cut short, no XML, or declares entities.
    """
    if not body.strip():
        raise UnreadableStatus("the answer is empty")
    try:
        document = xmltodict.parse(body, process_namespaces=True, namespaces=defaultdict(str))
    except ExpatError as error:
        raise UnreadableStatus(f"the answer is cut short or no XML: {error}") from None
    except (ValueError, LookupError) as error:  # entities, encodings that Python does not know
        raise UnreadableStatus(f"the answer is XML that is not read: {error}") from None
    name, root = next(iter(document.items()))
    return name, root


def children(node: Node, name: str) -> list[Node]:
    """Return the children of that local name, in order."""
    found = node.get(name, []) if isinstance(node, dict) else []
    return found if isinstance(found, list) else [found]


def child(node: Node, *path: str) -> Node:
    """Return the first child along a path of local names; None also where there is none: see `has`."""
    for name in path:
        node = next(iter(children(node, name)), None)
    return node


def has(node: Node, name: str) -> bool:
    """Tell whether there is a child of that local name; an empty element is one."""
    return isinstance(node, dict) and name in node


def text(node: Node) -> str:
    """Return an element's own text without white space around it."""
    found = node.get("#text") if isinstance(node, dict) else node
    return found.strip() if isinstance(found, str) else ""


def attribute(node: Node, name: str) -> str | None:
    """Return an attribute by its local name."""
    found = node.get(f"@{name}") if isinstance(node, dict) else None
    return found if isinstance(found, str) else None


def holds_elements(node: Node) -> bool:
    """Tell whether an element has children and not only text."""
    return isinstance(node, dict) and any(not key.startswith(("@", "#")) for key in node)


def inner_xml(body: bytes, path: tuple[str, ...]) -> list[str]:
    """Return, as XML, what is inside each element that a path of local names leads to; `read` has taken the body.

    `read` keeps no order among children of different names, so a value that is XML itself comes from here.
    """
    found = [ET.fromstring(body)]  # noqa: S314 - what declares entities did not pass `read`
    for name in path:
        found = [inner for outer in found for inner in outer if inner.tag.rpartition("}")[2] == name]
    return ["".join(ET.tostring(inner, encoding="unicode") for inner in outer).strip() for outer in found]
