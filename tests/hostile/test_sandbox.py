from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile import readers
from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.extract import ExtractionLimits, SandboxedExtractor
from workstation_pipelines.text.formats.table import FORMATS, Format

TABLE = {
    **FORMATS,
    **{
        f"application/x-{name.replace('_', '-')}": Format(f"{readers.__name__}:{name}")
        for name in vars(readers)
        if name.islower() and not name.startswith("_")
    },
}
LIMITS = ExtractionLimits(wall_s=10, cpu_s=10, memory_bytes=256 << 20)


@pytest.fixture(scope="module")
def extractor() -> Iterator[SandboxedExtractor]:
    extractor = SandboxedExtractor(LIMITS, processes=1, formats=TABLE)
    yield extractor
    extractor.close()


def extract(extractor: SandboxedExtractor, reader: str) -> Extracted:
    return extractor.extract(Content(b"body", "name", f"application/x-{reader}", "md5:0"))


def test_crash_is_a_failure_of_that_document_alone(extractor: SandboxedExtractor) -> None:
    with pytest.raises(UnreadableContentError) as raised:
        extract(extractor, "crash")
    assert raised.value.reason == "parser_crashed"
    assert extract(extractor, "babble").text == "calm"


def test_memory_cap_ends_a_parser_that_swells(extractor: SandboxedExtractor) -> None:
    with pytest.raises(UnreadableContentError) as raised:
        extract(extractor, "swell")
    assert raised.value.reason == "parser_memory"
    assert extract(extractor, "babble").text == "calm"


def test_bug_in_a_parser_is_a_corrupt_document_and_keeps_the_process(extractor: SandboxedExtractor) -> None:
    before = extract(extractor, "tell-process").text
    with pytest.raises(UnreadableContentError, match="ZeroDivisionError") as raised:
        extract(extractor, "raise-bug")
    assert raised.value.reason == "corrupt"
    assert extract(extractor, "tell-process").text == before


def test_parser_sees_no_environment_of_ours(extractor: SandboxedExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    fresh = SandboxedExtractor(LIMITS, processes=1, formats=TABLE)
    names = set(extract(fresh, "tell-environment").text.split())
    fresh.close()
    assert names <= {"PYTHONPATH", "LANG", "LC_CTYPE"}


def test_parser_process_loads_neither_dagster_nor_a_database_driver(extractor: SandboxedExtractor) -> None:
    roots = {name.partition(".")[0] for name in extract(extractor, "tell-modules").text.split()}
    assert not roots & {"dagster", "sqlalchemy", "psycopg", "httpx", "numpy", "onnxruntime"}


@pytest.mark.parametrize("reader", ["lie-about-headings", "return-unclean-text"])
def test_answers_are_not_believed(extractor: SandboxedExtractor, reader: str) -> None:
    with pytest.raises(UnreadableContentError) as raised:
        extract(extractor, reader)
    assert raised.value.reason == "parser_crashed"
    assert extract(extractor, "babble").text == "calm"


def test_hanging_parser_is_stopped_after_the_wall_time() -> None:
    extractor = SandboxedExtractor(ExtractionLimits(wall_s=0.5), processes=1, formats=TABLE)
    with pytest.raises(UnreadableContentError) as raised:
        extract(extractor, "hang")
    extractor.close()
    assert raised.value.reason == "parser_timeout"


def test_spinning_parser_is_stopped_after_its_cpu_time() -> None:
    extractor = SandboxedExtractor(ExtractionLimits(wall_s=30, cpu_s=0), processes=1, formats=TABLE)
    with pytest.raises(UnreadableContentError) as raised:
        extract(extractor, "spin")
    extractor.close()
    assert raised.value.reason == "parser_timeout"


def test_process_is_replaced_after_its_share_of_documents() -> None:
    extractor = SandboxedExtractor(LIMITS, processes=1, documents_per_process=2, formats=TABLE)
    first, second, third = (extract(extractor, "tell-process").text for _ in range(3))
    extractor.close()
    assert first == second != third


def test_many_threads_share_two_processes() -> None:
    extractor = SandboxedExtractor(LIMITS, processes=2, formats=TABLE)
    with ThreadPoolExecutor(8) as pool:
        processes = set(pool.map(lambda _: extract(extractor, "tell-process").text, range(40)))
    extractor.close()
    assert 1 <= len(processes) <= 2


def test_close_twice_is_fine_and_extraction_afterwards_is_a_bug() -> None:
    extractor = SandboxedExtractor(LIMITS, formats=TABLE)
    extractor.close()
    extractor.close()
    with pytest.raises(RuntimeError, match="closed"):
        extract(extractor, "babble")
