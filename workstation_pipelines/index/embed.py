"""Opens an embedder by the name it has in the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index.contract import Embedder


@dataclass(frozen=True, slots=True)
class _Choice:
    model: str | None
    base_url: str | None
    api_key: str | None
    dimensions: int | None
    threads: int


def open_embedder(
    name: str,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    dimensions: int | None = None,
    threads: int = 1,
) -> Embedder:
    """Return the embedder `name`, one of EMBEDDERS; what the others need is ignored.

    `minilm` uses `threads`; `openai` uses `model`, `base_url`, `api_key` and `dimensions`; `hashing` uses `dimensions`.

    Raises:
        InvalidRequestError: for an unknown name, and for a model or dimensions that the embedder cannot have.
    """
    opener = EMBEDDERS.get(name)
    if opener is None:
        raise InvalidRequestError(f"there is no embedder {name!r}: choose one of {', '.join(EMBEDDERS)}")
    return opener(_Choice(model, base_url, api_key, dimensions, threads))


def _open_minilm(choice: _Choice) -> Embedder:
    # Imported only where used: onnxruntime alone takes longer to load than the rest of the package.
    from workstation_pipelines.index.minilm import embedder

    _require(
        choice.model in (None, embedder.MODEL), f"embedder minilm has one model: leave it out or set {embedder.MODEL}"
    )
    _require(
        choice.dimensions in (None, embedder.DIMENSIONS),
        f"embedder minilm has {embedder.DIMENSIONS} dimensions, not {choice.dimensions}: leave them out",
    )
    return embedder.MiniLmEmbedder(threads=choice.threads)


def _open_openai(choice: _Choice) -> Embedder:
    from workstation_pipelines.index import openai

    return openai.OpenAiEmbedder(
        base_url=choice.base_url or openai.BASE_URL,
        model=choice.model or openai.MODEL,
        api_key=choice.api_key,
        dimensions=choice.dimensions,
    )


def _open_hashing(choice: _Choice) -> Embedder:
    from workstation_pipelines.index import hashing

    _require(
        choice.model in (None, hashing.MODEL), f"embedder hashing has one model: leave it out or set {hashing.MODEL}"
    )
    return hashing.HashingEmbedder(dimensions=choice.dimensions or hashing.DIMENSIONS)


def _require(is_right: bool, message: str) -> None:
    if not is_right:
        raise InvalidRequestError(message)


EMBEDDERS: Mapping[str, Callable[[_Choice], Embedder]] = {
    "minilm": _open_minilm,
    "openai": _open_openai,
    "hashing": _open_hashing,
}
