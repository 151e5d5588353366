"""What registration takes from a document: path and kind, whatever sort of resource it is (spec 10, section 4.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

from noetl.engine.playbook.yaml import AnyNode, MappingNode, string_value
from noetl.errors import UnprocessableError

PLAYBOOK: Final = "Playbook"
"""Kind of a document that names none."""


class ResourceHead(NamedTuple):
    """Where a resource is registered, and as what; ``metadata`` is the section as written."""

    path: str
    kind: str
    document: MappingNode
    metadata: MappingNode


class HeadlessResourceError(UnprocessableError):
    """A document that cannot be registered; ``place`` is the node at which something is missing, ``field`` its path."""

    def __init__(self, message: str, place: AnyNode, field: str) -> None:
        super().__init__(message)
        self.place = place
        self.field = field


def read_head(root: AnyNode, default_kind: str) -> ResourceHead:
    """Path and kind of a document.

    Raises:
        HeadlessResourceError: there is no path.
    """
    metadata = root.get("metadata") if isinstance(root, MappingNode) else None
    if metadata is None or not isinstance(root, MappingNode):
        raise HeadlessResourceError("Missing 'metadata' section", root, "")
    members = metadata if isinstance(metadata, MappingNode) else MappingNode(None, 1, 1)
    path = string_value(members.get("path"))
    if path is None:
        path = string_value(members.get("name"))
    if path is None:
        raise HeadlessResourceError("Missing 'path' or 'name' in metadata", metadata, "metadata")
    if not path:
        raise HeadlessResourceError("metadata.path must not be empty", metadata, "metadata.path")
    return ResourceHead(path, kind_of(root, default_kind), root, members)


def kind_of(root: AnyNode, default_kind: str) -> str:
    """The kind that a document names, else the default."""
    kind = string_value(root.get("kind")) if isinstance(root, MappingNode) else None
    return default_kind if kind is None else kind
