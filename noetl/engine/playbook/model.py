"""The playbook as the engine sees it: immutable, validated, every name resolved (spec 30, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from noetl.engine.template.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

PIPELINE_KIND = "task_sequence"
"""Tool kind of a command whose step has a pipeline (spec 30, section 8.2)."""


class LoopMode(Enum):
    """How the iterations of a loop are issued."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


class NextMode(Enum):
    """Which of several matching arcs are taken (spec 30, section 10.5)."""

    EXCLUSIVE = "exclusive"
    INCLUSIVE = "inclusive"


@dataclass(frozen=True, slots=True)
class Loop:
    """``step.loop``. ``collection`` is the text of ``in``; ``max_in_flight`` is None when unlimited."""

    collection: str
    iterator: str
    mode: LoopMode = LoopMode.SEQUENTIAL
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Arc:
    """One possible transition.

    ``arguments`` are those of a list target, merged verbatim into the target's context; ``assignments`` are the
    ``set`` of a router arc, rendered before they are merged (spec 30, section 7.6).
    """

    target: str
    when: str | None = None
    arguments: Mapping[str, Any] | None = None
    assignments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """All arcs of a step in document order; the name forms are arcs without conditions in inclusive mode."""

    arcs: tuple[Arc, ...]
    mode: NextMode = NextMode.EXCLUSIVE


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``tool_config`` is the unrendered shape of spec 30 section 8.1 (dict) or 8.2 (list: pipeline)."""

    name: str
    tool_kind: str
    tool_config: dict[str, Any] | list[Any]
    when: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])
    loop: Loop | None = None
    next: Next | None = None
    limits: Limits = DEFAULT_LIMITS
    """What one rendering of its templates may use."""

    @property
    def is_pipeline(self) -> bool:
        """Whether the step runs a list of tasks."""
        return isinstance(self.tool_config, list)


@dataclass(frozen=True, slots=True)
class KeychainEntry:
    """One ``keychain[]`` declaration (spec 30, section 3.3); ``extra`` holds the keys without a field."""

    name: str
    credential: str | None = None
    token_type: str | None = None
    scope: str | None = None
    provider: str | None = None
    auth: str | None = None
    region: str | None = None
    map: Mapping[str, str] | None = None
    residency: str = "none"
    allowed_regions: tuple[str, ...] = ()
    no_broker_fallback: bool = False
    auto_renew: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Playbook:
    """A validated playbook with its graph.

    ``upstream[s]`` are the distinct steps with any arc to ``s``; ``downstream[s]`` the distinct targets of ``s``.
    """

    __slots__ = ("downstream", "keychain", "metadata_path", "name", "step_index", "steps", "upstream", "workload")

    def __init__(
        self,
        name: str,
        metadata_path: str | None,
        workload: Any,
        steps: tuple[Step, ...],
        keychain: tuple[KeychainEntry, ...] = (),
    ) -> None:
        self.name = name
        self.metadata_path = metadata_path
        self.workload = workload
        self.keychain = keychain
        self.steps: dict[str, Step] = {step.name: step for step in steps}
        self.step_index: dict[str, int] = {step.name: index for index, step in enumerate(steps)}
        self.downstream: dict[str, tuple[str, ...]] = {
            step.name: tuple(dict.fromkeys(arc.target for arc in step.next.arcs)) if step.next else () for step in steps
        }
        upstream: dict[str, list[str]] = {step.name: [] for step in steps}
        for source, targets in self.downstream.items():
            for target in targets:
                upstream[target].append(source)
        self.upstream: dict[str, tuple[str, ...]] = {name: tuple(sources) for name, sources in upstream.items()}

    @property
    def pool_segment(self) -> str:
        """NATS segment of every command: ``system`` or ``shared`` (spec 30, section 11.5)."""
        return "system" if (self.metadata_path or "").startswith("system/") else "shared"

    @property
    def workload_defaults(self) -> dict[str, Any]:
        """The workload if it is a mapping, else an empty one."""
        is_mapping = isinstance(self.workload, dict)
        return self.workload if is_mapping else {}
