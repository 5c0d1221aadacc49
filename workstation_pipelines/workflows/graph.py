"""The order of nodes, what lies before each, and what is wrong with how they are joined."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workstation_pipelines.workflow_model import Edge
from workstation_pipelines.workflows.problems import Problem, pointer


@dataclass(frozen=True, slots=True)
class Graph:
    """`order` is topological, nodes that are free to come first in the order they were given; cycles are left out of it."""

    order: Sequence[str]
    before: Mapping[str, frozenset[str]]
    """All nodes from which a way leads to the node."""
    cycles: Sequence[Sequence[str]]
    """At least one of each knot; an edge leads from each node to the next, and from the last to the first."""


def graph_of(node_ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> Graph:
    """Put the nodes in order; edges to nodes that are not there are left out."""
    known = set(node_ids)
    after: dict[str, list[str]] = defaultdict(list)
    into: dict[str, set[str]] = {node: set() for node in node_ids}
    for source, target in edges:
        if source in known and target in known:
            after[source].append(target)
            into[target].add(source)
    order = _ordered(node_ids, after, into)
    before: dict[str, frozenset[str]] = {}
    for node in order:
        sources = into[node]
        before[node] = frozenset(sources).union(*(before[source] for source in sources))
    rest = set(node_ids) - set(order)
    return Graph(order, before, _cycles(rest, into) if rest else [])


def cycle_problems(graph: Graph, node_ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Yield each cycle at the edge that closes it, then the nodes that can be reached through cycles alone."""
    places = {edge: place for place, edge in enumerate(edges)}
    for loop in graph.cycles:
        cycle, place = _closed(loop, places)
        shown = cycle if len(cycle) <= 20 else [*cycle[:10], "...", *cycle[-9:]]
        yield Problem(pointer("edges", place), f"the nodes go in a circle, {' -> '.join(shown)}: take one edge away")
    in_cycles = {node for cycle in graph.cycles for node in cycle}
    reached = set(graph.order) | in_cycles
    for place, node in enumerate(node_ids):
        if node not in reached:
            yield Problem(
                pointer("nodes", place), f"node {node!r} cannot be reached: every way to it leads through a circle"
            )


def edges_into(edges: Sequence[Edge]) -> Mapping[str, Sequence[Edge]]:
    """Return the edges by the node they lead to, in their order."""
    found: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        found[edge.target].append(edge)
    return found


def _ordered(node_ids: Sequence[str], after: Mapping[str, list[str]], into: Mapping[str, set[str]]) -> list[str]:
    open_sources = {node: len(into[node]) for node in node_ids}
    ready = deque(node for node in node_ids if not open_sources[node])
    order: list[str] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for target in dict.fromkeys(after.get(node, ())):
            open_sources[target] -= 1
            if not open_sources[target]:
                ready.append(target)
    return order


def _cycles(nodes: set[str], into: Mapping[str, set[str]]) -> list[list[str]]:
    """Walk backwards among nodes that all have a source left: sooner or later the way meets itself."""
    cycles: list[list[str]] = []
    left = set(nodes)
    while True:
        left = _with_sources(left, into)
        if not left:
            return cycles
        way: dict[str, None] = {}
        node = min(left)
        while node not in way:
            way[node] = None
            node = min(into[node] & left)
        path = list(way)
        loop = path[path.index(node) :][::-1]
        cycles.append(loop)
        left -= set(loop)


def _closed(loop: Sequence[str], places: Mapping[tuple[str, str], int]) -> tuple[list[str], int]:
    """Return the circle so that the edge that closes it is the one written last, and where that stands."""
    steps = [(loop[place - 1], loop[place]) for place in range(len(loop))]
    last = max(range(len(loop)), key=lambda place: places[steps[place]])
    return [*loop[last:], *loop[:last], loop[last]], places[steps[last]]


def _with_sources(nodes: set[str], into: Mapping[str, set[str]]) -> set[str]:
    while True:
        kept = {node for node in nodes if into[node] & nodes}
        if len(kept) == len(nodes):
            return kept
        nodes = kept
