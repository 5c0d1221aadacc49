"""A Pinecone of one project, spoken to by the real SDK: control plane and documents interface (API 2026-07) on one port.

Every write goes into a log and is applied in its order: at once, after `lag_reads` further reads, or when `settle` is
called. A search tells the position it saw, writes the one they got; listings and fetches tell nothing. Limits are the
vendor's published ones. Cosines are computed exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tests.fakes.server import Answer, FakeVendor, Fault, Request

API_KEY = "pinecone-test-key"
API_VERSION = "2026-07"

_ID = re.compile(r"[\x01-\x7f]{1,512}")
_NAME = re.compile(r"(?!-)[a-z0-9-]{1,45}(?<!-)")
_METADATA_BYTES = 40 * 1024
_REQUEST_BYTES = 2 * 1024 * 1024
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: value == wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: value > wanted,
    "$gte": lambda value, wanted: value >= wanted,
    "$lt": lambda value, wanted: value < wanted,
    "$lte": lambda value, wanted: value <= wanted,
    "$in": lambda value, wanted: value in wanted,
    "$nin": lambda value, wanted: value not in wanted,
}

Stored = dict[str, dict[str, Any]]


class RefusedError(Exception):
    def __init__(self, message: str, status: int = 400, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.answer = Answer.of({"error": {"code": code, "message": message}, "status": status}, status)


class FakePinecone(FakeVendor):
    provider: ClassVar[str] = "pinecone"

    def __init__(self, *, lag_reads: int = 0) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.lag_reads = lag_reads
        self.is_held = False
        """While true, writes are acknowledged and nothing of them becomes visible, however many reads come."""
        self.refuses: Callable[[str], bool] = lambda _id: False
        """A request with a document of such an id is refused as a whole, naming it."""
        self.takes_at_most: int | None = None
        """Of one upsert, takes so many documents and says how many, not which."""
        self.is_creation_slow = False
        self.before: Callable[[Request], None] = lambda _request: None
        """Called with each request before it is answered, while others are answered."""
        self._log: list[tuple[int, str, Callable[[Stored], None]]] = []
        self._applied = 0
        self._reads = 0
        self._visible: dict[str, Stored] = {}
        super().__init__()

    # What a test asks and does

    def ids(self, namespace: str | None = None) -> set[str]:
        """The ids of all documents that were ever acknowledged and not deleted since, visible or not."""
        with self.lock:
            self.settle()
            return {key for name, held in self._visible.items() if namespace in (None, name) for key in held}

    def document(self, document_id: str) -> dict[str, Any]:
        with self.lock:
            self.settle()
            return next(held[document_id] for held in self._visible.values() if document_id in held)

    @property
    def namespaces(self) -> list[str]:
        with self.lock:
            self.settle()
            return [name for name, held in self._visible.items() if held]

    def settle(self) -> None:
        """Apply every write."""
        with self.lock:
            self._apply(len(self._log))

    def tamper(self, change: Callable[[Stored], None]) -> None:
        """Change what is stored behind everyone's back, in every namespace."""
        with self.lock:
            self.settle()
            for held in self._visible.values():
                change(held)

    # Answers

    def respond(self, request: Request) -> tuple[Answer, Fault | None]:
        self.before(request)
        return super().respond(request)

    def is_write(self, request: Request) -> bool:
        return request.raw_path.rsplit("/", 1)[-1] in ("upsert", "delete", "update") or request.method == "DELETE"

    def violation(self, request: Request, answer: Answer) -> str | None:
        version = request.headers.get("x-pinecone-api-version")
        return None if version == API_VERSION else f"asks for API version {version}"

    def answer(self, request: Request) -> Answer:
        if request.headers.get("api-key") != API_KEY:
            return RefusedError("Invalid API Key", 401, "UNAUTHENTICATED").answer
        try:
            if request.steps[0] == "indexes":
                return self._of_control_plane(request)
            if request.steps[0] == "namespaces" and request.steps[2:3] == ["documents"]:
                return self._of_documents(request, request.steps[1], request.steps[3])
        except RefusedError as refused:
            return refused.answer
        return RefusedError(f"no route {request.path}", 404, "NOT_FOUND").answer

    def _of_control_plane(self, request: Request) -> Answer:
        if request.method == "POST":
            wanted = request.json
            name = wanted["name"]
            if not _NAME.fullmatch(name):
                raise RefusedError(f"Name must consist of lower case alphanumeric characters or '-': {name}")
            if name in self.indexes:
                raise RefusedError(f"Resource {name} already exists", 409, "ALREADY_EXISTS")
            self.indexes[name] = {
                "name": name,
                "host": self.url,
                "schema": wanted["schema"],
                "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
                "status": {"ready": not self.is_creation_slow, "state": "Ready"},
                "deletion_protection": "disabled",
                "tags": None,
            }
            return Answer.of(self.indexes[name], 201)
        name = request.steps[1]
        if name not in self.indexes:
            raise RefusedError(f"Resource {name} not found", 404, "NOT_FOUND")
        return Answer.of(self.indexes[name])

    def _of_documents(self, request: Request, namespace: str, verb: str) -> Answer:
        if len(request.body) > _REQUEST_BYTES:
            raise RefusedError("Request size exceeds the limit of 2 MB", 413, "PAYLOAD_TOO_LARGE")
        body = request.json
        if verb in ("search", "fetch", "list"):
            self._reads += 1
            self._apply_due()
            held = self._visible.get(namespace)
            if held is None:
                raise RefusedError("Namespace not found", 404, "NOT_FOUND")
            return {"search": self._search, "fetch": self._fetch, "list": self._list}[verb](namespace, held, body)
        if verb in ("upsert", "delete"):
            return {"upsert": self._upsert, "delete": self._delete}[verb](namespace, body)
        raise RefusedError(f"no verb {verb}", 404, "NOT_FOUND")

    def _upsert(self, namespace: str, body: Any) -> Answer:
        documents = body["documents"]
        if not 1 <= len(documents) <= 1000:
            raise RefusedError(f"{len(documents)} documents: a request holds 1 to 1000")
        for document in documents:
            self._check(document)
        taken = documents if self.takes_at_most is None else documents[: self.takes_at_most]
        self._visible.setdefault(namespace, {})
        lsn = self._write(namespace, lambda held: held.update({each["_id"]: each for each in taken}))
        return Answer.of({"upserted_count": len(taken)}, headers={"x-pinecone-request-lsn": str(lsn)})

    def _check(self, document: Mapping[str, Any]) -> None:
        document_id = document.get("_id", "")
        if not _ID.fullmatch(document_id):
            raise RefusedError(f"{document_id!r} is no id")
        if self.refuses(document_id):
            raise RefusedError(f"document {document_id} cannot be taken")
        dimensions = {
            name: field["dimension"]
            for index in self.indexes.values()
            for name, field in index["schema"]["fields"].items()
        }
        for name, dimension in dimensions.items():
            values = document.get(name)
            if not isinstance(values, list) or len(values) != dimension:
                raise RefusedError(f"document {document_id}: the field {name} needs {dimension} values")
            if not any(values):
                raise RefusedError(f"document {document_id}: the field {name} has only zeros")
        metadata = {key: value for key, value in document.items() if key not in (*dimensions, "_id")}
        for key, value in metadata.items():
            is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
            if key.startswith(("_", "$")) or not (is_list or isinstance(value, str | int | float)):
                raise RefusedError(f"document {document_id}: the field {key} is no metadata")
        if len(repr(metadata).encode()) > _METADATA_BYTES:
            raise RefusedError(f"document {document_id}: metadata size exceeds the limit of 40960 bytes")

    def _delete(self, namespace: str, body: Any) -> Answer:
        if namespace not in self._visible:
            raise RefusedError("Namespace not found", 404, "NOT_FOUND")
        ids = body.get("ids", [])
        if body.get("delete_all"):
            lsn = self._write(namespace, lambda held: held.clear())
        elif 1 <= len(ids) <= 1000:
            lsn = self._write(namespace, lambda held: _remove(held, ids))
        else:
            raise RefusedError("ids, filter or delete_all is needed, with at most 1000 ids")
        return Answer.of({}, headers={"x-pinecone-request-lsn": str(lsn)})

    def _search(self, namespace: str, held: Stored, body: Any) -> Answer:
        if not 1 <= body["top_k"] <= 10_000:
            raise RefusedError("top_k must be between 1 and 10000")
        (clause,) = body["score_by"]
        (field,) = clause["fields"] if "fields" in clause else [clause["field"]]
        wanted = np.array(clause["values"])
        passed = [each for each in held.values() if _meets(each, body.get("filter") or {})]
        scored = sorted(((_cosine(np.array(each[field]), wanted), each["_id"]) for each in passed), reverse=True)
        matches = [{"_id": document_id, "_score": score} for score, document_id in scored[: body["top_k"]]]
        answer = {"matches": matches, "namespace": namespace, "usage": {"read_units": 1}}
        return Answer.of(answer, headers={"x-pinecone-max-indexed-lsn": str(self._applied)})

    def _fetch(self, namespace: str, held: Stored, body: Any) -> Answer:
        if not 1 <= len(body["ids"]) <= 1000:
            raise RefusedError("1 to 1000 ids can be fetched")
        fields = {"_id", *(body.get("include_fields") or ["*"])}
        found = {
            each: {key: value for key, value in held[each].items() if key in fields or "*" in fields}
            for each in body["ids"]
            if each in held
        }
        return Answer.of({"documents": found, "namespace": namespace, "usage": {"read_units": 1}})

    def _list(self, namespace: str, held: Stored, body: Any) -> Answer:
        limit = body.get("limit", 100)
        if not 1 <= limit <= 100:
            raise RefusedError("limit must be between 1 and 100")
        after = body.get("pagination_token", "")
        ids = [each for each in sorted(held) if each > after and each.startswith(body.get("prefix", ""))]
        answer: dict[str, Any] = {
            "documents": [{"_id": each} for each in ids[:limit]],
            "namespace": namespace,
            "usage": {"read_units": 1},
        }
        if len(ids) > limit:
            answer["pagination"] = {"next": ids[limit - 1]}
        return Answer.of(answer)

    def _write(self, namespace: str, change: Callable[[Stored], None]) -> int:
        self._log.append((self._reads + self.lag_reads, namespace, change))
        lsn = len(self._log)
        self._apply_due()
        return lsn

    def _apply_due(self) -> None:
        due = self._applied
        while not self.is_held and due < len(self._log) and self._log[due][0] <= self._reads:
            due += 1
        self._apply(due)

    def _apply(self, up_to: int) -> None:
        for _, namespace, change in self._log[self._applied : up_to]:
            change(self._visible.setdefault(namespace, {}))
        self._applied = max(self._applied, up_to)


def _remove(held: Stored, ids: Sequence[str]) -> None:
    for each in ids:
        held.pop(each, None)


def _meets(document: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    for key, condition in conditions.items():
        if key == "$and":
            if not all(_meets(document, each) for each in condition):
                return False
        elif not all(_compares(document.get(key), operator, value) for operator, value in condition.items()):
            return False
    return True


def _compares(value: Any, operator: str, wanted: Any) -> bool:
    if operator not in _COMPARISONS:
        raise RefusedError(f"{operator} is no operator")
    if operator in ("$in", "$nin") and not 1 <= len(wanted) <= 10_000:
        raise RefusedError(f"{operator} takes 1 to 10000 values")
    if value is None:
        return operator in ("$ne", "$nin")
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return any(_COMPARISONS[operator](each, wanted) for each in values)


def _cosine(left: Any, right: Any) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
