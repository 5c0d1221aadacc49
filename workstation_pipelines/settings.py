"""Every setting of the system: one frozen value, read from the environment once and passed on. Nothing else reads it.

With no variable set at all everything runs on this machine: an embedded PostgreSQL, a local embedder, a user `dev`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import SourceType

APP_DRIVER = "psycopg"
DAGSTER_DRIVER = "psycopg2"

_JSON_EXAMPLES = {"WORKSTATION_RATES": '{"gmail.units": 250}', "WORKSTATION_PRICES": '{"bge-m3": 0.01}'}

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000)]

_POSTGRES_SCHEME = re.compile(r"\A(postgres|postgresql)(\+[a-z0-9_]+)?\Z")


class EmbedderName(StrEnum):
    MINILM = "minilm"
    OPENAI = "openai"
    HASHING = "hashing"


class IndexStore(StrEnum):
    PGVECTOR = "pgvector"
    PINECONE = "pinecone"


class Vendor(BaseModel):
    """What an operator may choose for one vendor: each field, in capitals behind the vendor's name, is a variable.

    `*_url` replace the vendor's own addresses, for a fake, a proxy or a national cloud; only the OAuth client is needed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    api_url: str | None = None
    content_url: str | None = None
    files_url: str | None = None
    export_url: str | None = None
    authorize_url: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None

    @field_validator("api_url", "content_url", "files_url", "export_url", "authorize_url", "token_url")
    @classmethod
    def _is_safe(cls, value: str | None) -> str | None:
        return value and safe_url(value)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A client registered at a vendor. `variables` name its settings, for messages; None is the vendor's default URL."""

    client_id: str | None
    client_secret: SecretStr | None
    authorize_url: str | None
    token_url: str | None
    variables: tuple[str, str]


class RetentionDays(BaseModel):
    """How many days each kind of row is kept once it has had its day; housekeeping removes what is older."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tombstones: int = Field(30, ge=1, le=3650)
    """Deleted documents, which can be restored until then, and the traces of items that are gone at their source."""

    sync_jobs: int = Field(90, ge=1, le=3650)
    """Jobs that have ended; the newest of each source are kept in any case."""

    workflow_executions: int = Field(90, ge=1, le=3650)
    """Executions of workflows that have ended, with their steps and timelines."""

    failures: int = Field(30, ge=1, le=3650)
    """Failures of items that were resolved since."""

    events: int = Field(90, ge=1, le=3650)
    """Events that were resolved, and the deliveries of webhooks."""

    metrics: int = Field(400, ge=1, le=3650)
    """Metrics by the hour. Billing records stay."""

    dagster_runs: int = Field(30, ge=1, le=3650)
    """Dagster's runs that have ended, with their logs; the newest of each source is kept."""


class Settings(BaseSettings):
    """What an operator may choose. Each field names its variable, or the beginning of several; every one has a default.

    Secrets and database URLs, which may hold a password, never appear in a repr.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        env_nested_delimiter="_",  # GMAIL_API_URL is the field `api_url` of `gmail`
        env_nested_max_split=1,
    )

    home: Path = Field(Path("~/.workstation"), alias="WORKSTATION_HOME")
    """Where the embedded database, logs and Dagster's files live."""

    user: str = Field("dev", alias="WORKSTATION_USER", min_length=1, max_length=200)
    """Who the command line acts as."""

    tenant: str | None = Field(None, alias="WORKSTATION_TENANT", max_length=200, pattern=r"^[A-Za-z0-9_.:|@-]+$")
    """Whose workflows the command line sees and runs: each tenant's are apart, even a user's own. None is the user."""

    database_url: str | None = Field(None, alias="DATABASE_URL", repr=False)
    """The application's database, as the login role that row-level security restricts; None is the embedded one."""

    database_admin_url: str | None = Field(None, alias="DATABASE_ADMIN_URL", repr=False)
    """The same database as a role that may migrate it; DATABASE_URL when unset."""

    dagster_postgres_url: str | None = Field(None, alias="DAGSTER_POSTGRES_URL", repr=False)
    """Dagster's own storage, a separate database; None is the embedded one."""

    dagster_home_override: Path | None = Field(None, alias="DAGSTER_HOME")
    """Where dagster.yaml is written; `dagster` under the home when unset."""

    folder_roots_text: str | None = Field(None, alias="WORKSTATION_FOLDER_ROOTS")
    """Folders under which local_folder sources may lie, separated like PATH. See `folder_roots`."""

    embedder: EmbedderName = Field(EmbedderName.MINILM, alias="WORKSTATION_EMBEDDER")
    """`minilm` runs here, `openai` calls any endpoint that speaks its protocol, `hashing` is for tests."""

    embedding_model: str | None = Field(None, alias="WORKSTATION_EMBEDDING_MODEL")
    """The model's name for `openai`; None is the embedder's default."""

    embedding_url: str | None = Field(None, alias="WORKSTATION_EMBEDDING_URL")
    """Base URL of the embeddings endpoint for `openai`, ending before `/embeddings`."""

    embedding_key: SecretStr | None = Field(None, alias="WORKSTATION_EMBEDDING_KEY")
    """Bearer key of that endpoint."""

    embedding_dimensions: int | None = Field(None, alias="WORKSTATION_EMBEDDING_DIMENSIONS", ge=1, le=4000)
    """Length of the vectors to ask for; None is the model's own."""

    chunk_tokens: int = Field(254, alias="WORKSTATION_CHUNK_TOKENS", ge=16, le=8192)
    """The most tokens in a chunk; MiniLM sees 256 with its two markers."""

    chunk_overlap_tokens: int = Field(0, alias="WORKSTATION_CHUNK_OVERLAP_TOKENS", ge=0)
    """Tokens that a chunk repeats of the one before it; less than `chunk_tokens`."""

    index: IndexStore = Field(IndexStore.PGVECTOR, alias="WORKSTATION_INDEX")
    """Where vectors are searched: `pgvector`, the database itself, or `pinecone`. They are kept in the database in any case."""

    pinecone_api_key: SecretStr | None = Field(None, alias="PINECONE_API_KEY")
    """The key of one's project at Pinecone."""

    pinecone_index: str = Field("workstation", alias="WORKSTATION_PINECONE_INDEX", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """How the names of the indexes there begin; the length of their vectors follows, as in `workstation-384`."""

    pinecone_url: str = Field("https://api.pinecone.io", alias="WORKSTATION_PINECONE_URL")
    """Where indexes are made and looked up."""

    token_keys: SecretStr | None = Field(None, alias="WORKSTATION_TOKEN_KEYS")
    """Keys that seal stored credentials: `<id>:<base64 of 32 bytes>`, newest first, separated by commas."""

    google_drive: Vendor = Field(Vendor(), alias="GOOGLE_DRIVE")
    """GOOGLE_DRIVE_API_URL, _EXPORT_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    gmail: Vendor = Field(Vendor(), alias="GMAIL")
    """GMAIL_API_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    notion: Vendor = Field(Vendor(), alias="NOTION")
    """NOTION_API_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    slack: Vendor = Field(Vendor(), alias="SLACK")
    """SLACK_API_URL, _FILES_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    dropbox: Vendor = Field(Vendor(), alias="DROPBOX")
    """DROPBOX_API_URL, _CONTENT_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    onedrive: Vendor = Field(Vendor(), alias="ONEDRIVE")
    """ONEDRIVE_API_URL, _AUTHORIZE_URL, _TOKEN_URL, _CLIENT_ID, _CLIENT_SECRET."""

    google_client_id: str | None = Field(None, alias="GOOGLE_CLIENT_ID")
    """The OAuth client for Google Drive and Gmail, where they have none of their own."""

    google_client_secret: SecretStr | None = Field(None, alias="GOOGLE_CLIENT_SECRET")
    """Its secret."""

    microsoft_client_id: str | None = Field(None, alias="MICROSOFT_CLIENT_ID")
    """The OAuth client for OneDrive, where it has none of its own."""

    microsoft_client_secret: SecretStr | None = Field(None, alias="MICROSOFT_CLIENT_SECRET")
    """Its secret; a public client has none."""

    llm_url: str | None = Field(None, alias="WORKSTATION_LLM_URL")
    """Base URL of the chat endpoint that `llm` blocks ask, ending before `/chat/completions`; it may be inside your network."""

    llm_key: SecretStr | None = Field(None, alias="WORKSTATION_LLM_KEY")
    """Bearer key of that endpoint; it goes nowhere else."""

    llm_model: str | None = Field(None, alias="WORKSTATION_LLM_MODEL")
    """The model of `llm` blocks whose workflow names none."""

    apify_api_url: str = Field("https://api.apify.com", alias="APIFY_API_URL")
    """Base URL of Apify, for `apify_actor` blocks."""

    apify_token: SecretStr | None = Field(None, alias="APIFY_TOKEN")
    """The token of one's account at Apify, for blocks that give none."""

    apollo_api_url: str = Field("https://api.apollo.io", alias="APOLLO_API_URL")
    """Base URL of Apollo, for `apollo_enrich` blocks."""

    apollo_api_key: SecretStr | None = Field(None, alias="APOLLO_API_KEY")
    """The key of one's account at Apollo, for blocks that give none."""

    composio_api_url: str = Field("https://backend.composio.dev", alias="COMPOSIO_API_URL")
    """Base URL of Composio, for sources whose credentials it keeps and `composio_tool` blocks."""

    composio_api_key: SecretStr | None = Field(None, alias="COMPOSIO_API_KEY")
    """The key of one's project at Composio."""

    rates: dict[str, Annotated[float, Field(gt=0, le=10_000)]] = Field(default_factory=dict, alias="WORKSTATION_RATES")
    """Calls a second that a vendor allows an account, where its default here is wrong: JSON such as `{"gmail.units": 250}`."""

    retention_days: RetentionDays = Field(default_factory=RetentionDays, alias="WORKSTATION_RETENTION_DAYS")
    """How long what has had its day is kept, in days: JSON such as `{"tombstones": 30, "dagster_runs": 14}`."""

    prices: dict[str, Usd] = Field(default_factory=dict, alias="WORKSTATION_PRICES")
    """USD for a million tokens by model, where the known price is wrong or there is none: JSON such as `{"bge-m3": 0.01}`.

    `"<model>:output"` is for the tokens that a model writes, where they cost something else.
    """

    fetch_http: bool = Field(False, alias="WORKSTATION_FETCH_HTTP")
    """Lets URLs that a user wants processed, or that a block asks, be http; only https otherwise."""

    fetch_loopback: bool = Field(False, alias="WORKSTATION_FETCH_LOOPBACK")
    """Lets such URLs lead to this machine itself. For tests: on a server that others use it opens what listens there."""

    webhook_loopback: bool = Field(False, alias="WORKSTATION_WEBHOOK_LOOPBACK")
    """Lets webhooks lead to this machine, over http too; for trying one out. Others are public https addresses only."""

    fault: str | None = Field(None, alias="WORKSTATION_FAULT", pattern=r"^[a-z0-9_.]+:[1-9][0-9]*(:stop)?$")
    """For crash tests: die, or with `:stop` pause, at the nth passage of a named point, `name:nth`. Off when unset."""

    debug: bool = Field(False, alias="WORKSTATION_DEBUG")
    """Shows the trace of an unexpected error; it is in the log in any case."""

    web_port: int = Field(3000, alias="WORKSTATION_WEB_PORT", ge=1, le=65535)
    """Where `workstation dev` serves Dagster's pages, on the loopback address."""

    api_port: int = Field(8000, alias="WORKSTATION_API_PORT", ge=1, le=65535)
    """Where the REST API is served, on the loopback address."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment afresh. Raises InvalidRequestError that names the variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            problems = "; ".join(
                f"{_variable(problem['loc'])}{problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors()
            )
            raise InvalidRequestError(f"Settings cannot be used: {problems}.") from None
        except SettingsError as error:
            raise InvalidRequestError(f"Settings cannot be used: {cls._unread(str(error))}.") from None

    @classmethod
    def _unread(cls, message: str) -> str:
        """Say which variable does not hold the JSON that it should."""
        named = re.search(r'field "(\w+)"', message)
        variable = cls.model_fields[named[1]].alias if named and named[1] in cls.model_fields else None
        if variable is None:
            return message
        if variable in _JSON_EXAMPLES:
            return f"{variable}: is not JSON such as {_JSON_EXAMPLES[variable]}"
        return f"{variable}: says nothing by itself; {variable}_API_URL, {variable}_CLIENT_ID and the like are settings"

    @field_validator("home", "dagster_home_override")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and Path(os.path.abspath(value.expanduser()))

    @field_validator("database_url", "database_admin_url")
    @classmethod
    def _for_application(cls, value: str | None) -> str | None:
        return value and with_driver(value, APP_DRIVER)

    @field_validator("dagster_postgres_url")
    @classmethod
    def _for_dagster(cls, value: str | None) -> str | None:
        return value and with_driver(value, DAGSTER_DRIVER)

    @field_validator("llm_url")
    @classmethod
    def _is_a_base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.strip())
            is_plain = parts.username is None and not parts.query and not parts.fragment and parts.port != 0
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in ("https", "http") or not parts.hostname or not is_plain:
            raise ValueError("is not a URL such as https://host/v1, without user and query")
        return value.strip().rstrip("/")

    @field_validator("rates")
    @classmethod
    def _rates_are_of_vendors(cls, value: dict[str, float]) -> dict[str, float]:
        for key in value:
            source_type, dot, call = key.partition(".")
            if source_type not in list(SourceType) or not dot or not call:
                raise ValueError(f"`{key}` is not <source type>.<call>, such as gmail.units")
        return value

    @field_validator("apify_api_url", "apollo_api_url", "composio_api_url", "pinecone_url")
    @classmethod
    def _gets_a_key_safely(cls, value: str) -> str:
        return safe_url(value)

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.chunk_overlap_tokens >= self.chunk_tokens:
            raise ValueError("WORKSTATION_CHUNK_OVERLAP_TOKENS must be less than WORKSTATION_CHUNK_TOKENS")
        return self

    @model_validator(mode="after")
    def _pinecone_has_a_key(self) -> Self:
        if self.index is IndexStore.PINECONE and self.pinecone_api_key is None:
            raise ValueError("WORKSTATION_INDEX is pinecone and needs PINECONE_API_KEY")
        return self

    @model_validator(mode="after")
    def _dagster_has_its_own_database(self) -> Self:
        if self.database_url and self.dagster_postgres_url:
            ours, dagsters = urlsplit(self.database_url), urlsplit(self.dagster_postgres_url)
            if (ours.hostname, ours.port, ours.path, ours.query) == (
                dagsters.hostname,
                dagsters.port,
                dagsters.path,
                dagsters.query,
            ):
                raise ValueError(
                    "DAGSTER_POSTGRES_URL must name another database than DATABASE_URL: "
                    "each keeps its schema's version in a table of the same name"
                )
        return self

    @property
    def uses_embedded_database(self) -> bool:
        return self.database_url is None

    @property
    def dagster_home(self) -> Path:
        return self.dagster_home_override or self.home / "dagster"

    @property
    def migration_url(self) -> str | None:
        """The URL to migrate with; None is the embedded database."""
        return self.database_admin_url or self.database_url

    def folder_roots(self) -> tuple[Path, ...] | None:
        """Folders that may be connected: None is any readable folder, an empty tuple is none at all.

        Unset means any on one's own machine (embedded database) and none on a server that others use.
        """
        if self.folder_roots_text is None:
            return None if self.uses_embedded_database else ()
        parts = [part for part in self.folder_roots_text.split(os.pathsep) if part.strip()]
        return tuple(Path(part).expanduser().resolve() for part in parts)

    def source_urls(self, source_type: SourceType) -> dict[str, str]:
        """Return the base URLs that replace a vendor's own, by the names that connectors give them."""
        vendor = self._vendor(source_type)
        found = {
            "api": vendor.api_url,
            "content": vendor.content_url,
            "files": vendor.files_url,
            "export": vendor.export_url,
        }
        return {name: url for name, url in found.items() if url}

    def oauth_client(self, source_type: SourceType) -> OAuthClient:
        """Return the client registered at a source's vendor; its id is None when nobody has set one."""
        vendor = self._vendor(source_type)
        prefix, shared_id, shared_secret = {
            SourceType.GOOGLE_DRIVE: ("GOOGLE", self.google_client_id, self.google_client_secret),
            SourceType.GMAIL: ("GOOGLE", self.google_client_id, self.google_client_secret),
            SourceType.ONEDRIVE: ("MICROSOFT", self.microsoft_client_id, self.microsoft_client_secret),
        }.get(source_type, (source_type.value.upper(), None, None))
        # An id of its own never goes with the shared client's secret.
        is_own = vendor.client_id is not None
        return OAuthClient(
            client_id=vendor.client_id if is_own else shared_id,
            client_secret=vendor.client_secret if is_own else shared_secret,
            authorize_url=vendor.authorize_url,
            token_url=vendor.token_url,
            variables=(f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET"),
        )

    def _vendor(self, source_type: SourceType) -> Vendor:
        found = getattr(self, source_type.value, None)
        return found if isinstance(found, Vendor) else Vendor()


def safe_url(url: str) -> str:
    """Return a base URL without its last slash. Raises ValueError unless it is https, or http on this machine.

    The address gets people's tokens.
    """
    try:
        parts = urlsplit(url.strip())
        is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
        is_plain = parts.username is None and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        raise ValueError("is not a URL") from None
    if not parts.hostname or not is_plain or parts.scheme not in ("https", "http" if is_here else "https"):
        raise ValueError("is not an https URL (http is for this machine only) without user, query and fragment")
    return url.strip().rstrip("/")


def with_driver(url: str, driver: str) -> str:
    """Return a PostgreSQL URL for SQLAlchemy with `driver`, whatever driver or short scheme it named before.

    Raises ValueError, without quoting the URL, for anything else.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or not _POSTGRES_SCHEME.fullmatch(scheme) or any(character.isspace() for character in rest):
        raise ValueError("is not a URL of the form postgresql://user:password@host:5432/database")
    try:
        _ = urlsplit(f"postgresql://{rest}").port
    except ValueError:
        raise ValueError("names a port that is not a number (percent-encode / : @ in a password)") from None
    return f"postgresql+{driver}://{rest}"


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `more` on top, for a child process."""
    return {**os.environ, **more}


def libpq_url(url: str) -> str:
    """Return the URL as psycopg itself takes it: without SQLAlchemy's driver in the scheme."""
    return "postgresql://" + url.partition("://")[2]


def _variable(location: tuple[int | str, ...]) -> str:
    if len(location) > 1 and location[0] in _JSON_EXAMPLES:
        return f"{location[0]}: `{location[1]}`: "
    return f"{'_'.join(map(str, location)).upper()}: " if location else ""
