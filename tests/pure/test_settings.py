"""Settings are read once from the environment, normalised, and never show a secret."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from workstation_pipelines import settings
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import SourceType
from workstation_pipelines.settings import Settings


def test_everything_has_a_default_that_needs_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    loaded = Settings.load()
    assert loaded.uses_embedded_database
    assert loaded.home == Path("/home/ada/.workstation")
    assert loaded.dagster_home == Path("/home/ada/.workstation/dagster")
    assert loaded.user == "dev"
    assert loaded.embedder == settings.EmbedderName.MINILM
    assert loaded.chunk_tokens == 254
    assert loaded.migration_url is None
    assert loaded.pinecone_api_key is None
    assert loaded.fault is None


def test_every_setting_is_documented_and_named_after_a_variable() -> None:
    source = Path(settings.__file__).read_text()
    for name, field in Settings.model_fields.items():
        assert field.alias == field.alias.upper() if field.alias else False, name
        assert f'alias="{field.alias}"' in source
        after = source.partition(f'alias="{field.alias}"')[2].partition("\n")[2]
        assert after.lstrip().startswith('"""'), f"{name} has no docstring"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_any_spelling_of_a_postgres_url_gets_the_driver_of_its_side(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    for variable in ("DATABASE_URL", "DATABASE_ADMIN_URL"):
        monkeypatch.setenv(variable, f"{scheme}://ada:p%40ss@db:5433/main?sslmode=require")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"{scheme}://ada:p%40ss@db:5433/dagster?sslmode=require")
    loaded = Settings.load()
    assert loaded.database_url == "postgresql+psycopg://ada:p%40ss@db:5433/main?sslmode=require"
    assert loaded.database_admin_url == loaded.database_url
    assert loaded.dagster_postgres_url == "postgresql+psycopg2://ada:p%40ss@db:5433/dagster?sslmode=require"
    assert settings.libpq_url(loaded.database_url) == "postgresql://ada:p%40ss@db:5433/main?sslmode=require"


@pytest.mark.parametrize(
    "url", ["mysql://ada:hush@db/main", "ada:hush@db", "postgres://ada:hu/sh@db/main", "postgres://ada:hush @db/main"]
)
def test_unusable_database_url_is_refused_by_name_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(InvalidRequestError, match=r"DATABASE_URL: ") as refused:
        Settings.load()
    assert "hu" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORKSTATION_CHUNK_TOKENS", "many"),
        ("WORKSTATION_EMBEDDER", "word2vec"),
        ("WORKSTATION_FAULT", "commit_page"),
        ("WORKSTATION_EMBEDDING_DIMENSIONS", "0"),
        ("WORKSTATION_WEB_PORT", "99999"),
    ],
)
def test_refusal_names_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequestError, match=variable):
        Settings.load()


def test_overlap_must_be_smaller_than_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKSTATION_CHUNK_TOKENS", "64")
    monkeypatch.setenv("WORKSTATION_CHUNK_OVERLAP_TOKENS", "64")
    with pytest.raises(InvalidRequestError, match="WORKSTATION_CHUNK_OVERLAP_TOKENS must be less"):
        Settings.load()


def test_dagster_must_not_share_the_applications_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:hush@db/main")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://dagster:hush@db/main")
    with pytest.raises(InvalidRequestError, match=r"DAGSTER_POSTGRES_URL must name another database"):
        Settings.load()


def test_secrets_do_not_appear_when_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "PINECONE_API_KEY": "hush1",
        "WORKSTATION_TOKEN_KEYS": "hush2",
        "WORKSTATION_EMBEDDING_KEY": "hush3",
        "DATABASE_URL": "postgresql://a:hush4@db/x",
        "DATABASE_ADMIN_URL": "postgresql://a:hush5@db/x",
        "DAGSTER_POSTGRES_URL": "postgresql://a:hush6@db/y",
    }
    for variable, value in secrets.items():
        monkeypatch.setenv(variable, value)
    loaded = Settings.load()
    assert "hush" not in repr(loaded) + str(loaded)
    assert loaded.pinecone_api_key is not None
    assert loaded.pinecone_api_key.get_secret_value() == "hush1"


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings.load().uses_embedded_database


def test_settings_cannot_be_changed() -> None:
    loaded = Settings.load()
    with pytest.raises(ValidationError, match="frozen"):
        loaded.user = "eve"  # type: ignore[misc]  # refused by mypy as well


def test_folder_roots_are_open_on_ones_own_machine_and_closed_on_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Settings.load().folder_roots() is None
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
    assert Settings.load().folder_roots() == ()
    monkeypatch.setenv("WORKSTATION_FOLDER_ROOTS", os.pathsep.join([str(tmp_path), "", "/srv/shared"]))
    assert Settings.load().folder_roots() == (tmp_path.resolve(), Path("/srv/shared"))


def test_vendors_addresses_and_clients_have_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "GMAIL_API_URL": "http://127.0.0.1:8123/",
        "GOOGLE_DRIVE_EXPORT_URL": "https://export.example/base/",
        "DROPBOX_CONTENT_URL": "https://content.example",
        "SLACK_FILES_URL": "https://files.example",
        "NOTION_TOKEN_URL": "https://token.example/v1",
        "NOTION_CLIENT_ID": "notion-client",
        "NOTION_CLIENT_SECRET": "hush",
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    loaded = Settings.load()
    assert loaded.source_urls(SourceType.GMAIL) == {"api": "http://127.0.0.1:8123"}
    assert loaded.source_urls(SourceType.GOOGLE_DRIVE) == {"export": "https://export.example/base"}
    assert loaded.source_urls(SourceType.DROPBOX) == {"content": "https://content.example"}
    assert loaded.source_urls(SourceType.SLACK) == {"files": "https://files.example"}
    assert loaded.source_urls(SourceType.LOCAL_FOLDER) == {}
    client = loaded.oauth_client(SourceType.NOTION)
    assert (client.client_id, client.token_url) == ("notion-client", "https://token.example/v1")
    assert "hush" not in repr(loaded) + repr(client)


def test_google_and_microsoft_clients_serve_where_a_source_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLIENT_ID", "shared")
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET", "shared-secret")
    monkeypatch.setenv("MICROSOFT_CLIENT_ID", "public")
    monkeypatch.setenv("GMAIL_CLIENT_ID", "own")
    loaded = Settings.load()
    drive, gmail, onedrive, slack = (
        loaded.oauth_client(each)
        for each in (SourceType.GOOGLE_DRIVE, SourceType.GMAIL, SourceType.ONEDRIVE, SourceType.SLACK)
    )
    assert drive.client_secret is not None
    assert (drive.client_id, drive.client_secret.get_secret_value()) == ("shared", "shared-secret")
    assert (gmail.client_id, gmail.client_secret) == ("own", None), "a client never goes with another one's secret"
    assert (onedrive.client_id, onedrive.client_secret) == ("public", None)
    assert (slack.client_id, slack.variables) == (None, ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET"))


@pytest.mark.parametrize(
    "url",
    [
        "http://vendor.example",
        "https://user:hush@vendor.example",
        "https://vendor.example/?key=hush",
        "https://vendor.example/#hush",
        "ftp://vendor.example",
        "https://",
        "https://vendor.example:99999999",
        "https://[hush",
        "vendor.example",
        "http://127.0.0.1.vendor.example",
    ],
)
@pytest.mark.parametrize(
    "variable", ["DROPBOX_API_URL", "ONEDRIVE_AUTHORIZE_URL", "COMPOSIO_API_URL", "APIFY_API_URL", "APOLLO_API_URL"]
)
def test_address_that_would_get_tokens_in_the_open_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(InvalidRequestError, match=f"{variable}: ") as refused:
        Settings.load()
    assert "hush" not in refused.value.message


def test_variable_with_the_bare_name_of_a_vendor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK", "hush")
    with pytest.raises(InvalidRequestError, match="SLACK: says nothing by itself") as refused:
        Settings.load()
    assert "hush" not in refused.value.message


def test_importing_settings_loads_no_heavy_library() -> None:
    code = "import sys, workstation_pipelines.settings; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dagster", "sqlalchemy", "psycopg", "numpy", "onnxruntime", "httpx"} & set(loaded)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("fast", "WORKSTATION_RATES: is not JSON such as"),
        ("[1]", "WORKSTATION_RATES: Input should be a valid dictionary"),
        ('{"gmail.units": 0}', "WORKSTATION_RATES: `gmail.units`: Input should be greater than 0"),
        ('{"gmial.units": 3}', "WORKSTATION_RATES: `gmial.units` is not <source type>.<call>"),
        ('{"gmail": 3}', "WORKSTATION_RATES: `gmail` is not <source type>.<call>"),
    ],
)
def test_rate_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, complaint: str) -> None:
    monkeypatch.setenv("WORKSTATION_RATES", given)
    with pytest.raises(InvalidRequestError, match=complaint):
        Settings.load()


def test_prices_are_exact_and_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKSTATION_PRICES", '{"bge-m3": 0.01}')
    assert Settings.load().prices == {"bge-m3": Decimal("0.01")}
    monkeypatch.setenv("WORKSTATION_PRICES", '{"bge-m3": -1}')
    with pytest.raises(InvalidRequestError, match="WORKSTATION_PRICES: `bge-m3`: Input should be greater than"):
        Settings.load()
    monkeypatch.setenv("WORKSTATION_PRICES", "cheap")
    with pytest.raises(InvalidRequestError, match="WORKSTATION_PRICES: is not JSON such as"):
        Settings.load()


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "https://", "https://u:hush@host/v1", "http://host:hush/v1", "http://h/?k=hush"]
)
def test_chat_endpoint_is_a_url_of_any_network(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WORKSTATION_LLM_URL", "http://10.0.0.7:8000/v1/")
    assert Settings.load().llm_url == "http://10.0.0.7:8000/v1"
    monkeypatch.setenv("WORKSTATION_LLM_URL", url)
    with pytest.raises(InvalidRequestError, match="WORKSTATION_LLM_URL") as refused:
        Settings.load()
    assert "hush" not in refused.value.message
