"""The folders of an account, as far as they are known: ancestry and paths where a vendor gives only parents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from workstation_pipelines.model import Container


class Tree:
    """Containers by id. Parents may be unknown, come later, or form a cycle; none of these is an error."""

    def __init__(self, containers: Iterable[Container] = ()) -> None:
        self._by_id: dict[str, Container] = {}
        self._children: dict[str, dict[str, None]] = {}
        for container in containers:
            self.put(container)

    def __contains__(self, external_id: str) -> bool:
        return external_id in self._by_id

    def get(self, external_id: str) -> Container | None:
        return self._by_id.get(external_id)

    def put(self, container: Container) -> bool:
        """Add or replace; return whether its name or parent differs from what was known."""
        before = self._by_id.get(container.external_id)
        self.remove(container.external_id)
        self._by_id[container.external_id] = container
        if container.parent_external_id is not None:
            self._children.setdefault(container.parent_external_id, {})[container.external_id] = None
        if before is None:
            return True
        return (before.name, before.parent_external_id) != (container.name, container.parent_external_id)

    def remove(self, external_id: str) -> Container | None:
        """Forget one container; what lies below it stays, with an unknown ancestor."""
        gone = self._by_id.pop(external_id, None)
        if gone is not None and gone.parent_external_id is not None:
            self._children.get(gone.parent_external_id, {}).pop(external_id, None)
        return gone

    def chain(self, external_id: str | None) -> Sequence[Container]:
        """Return the known containers from `external_id` upwards; a cycle is cut where it closes."""
        found: dict[str, Container] = {}
        while external_id is not None and external_id in self._by_id and external_id not in found:
            found[external_id] = self._by_id[external_id]
            external_id = found[external_id].parent_external_id
        return list(found.values())

    def path(self, external_id: str | None) -> str:
        """Return the names from the top down, joined by slashes; a slash inside a name becomes a look-alike."""
        return "/".join(safe_name(container.name) for container in reversed(self.chain(external_id)))

    def is_rooted(self, external_id: str | None) -> bool:
        """Return whether every ancestor up to one without a parent is known."""
        chain = self.chain(external_id)
        return bool(chain) and chain[-1].parent_external_id is None

    def is_within(self, external_id: str | None, roots: Collection[str]) -> bool:
        """Return whether `external_id` is one of `roots` or lies below a known one."""
        return any(container.external_id in roots for container in self.chain(external_id)) or external_id in roots

    def below(self, external_id: str) -> list[str]:
        """Return `external_id` and the ids of all containers below it, each once, parents first."""
        found = {external_id: None}
        waiting = [external_id]
        while waiting:
            for child in self._children.get(waiting.pop(), ()):
                if child not in found:
                    found[child] = None
                    waiting.append(child)
        return list(found)


def safe_name(name: str) -> str:
    """Return a name as one step of a path: without a slash, which some vendors allow in names."""
    return name.replace("/", "\N{DIVISION SLASH}")
