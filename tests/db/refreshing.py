"""Asking for access tokens in processes of their own, which may die at the worst moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from tests.fakes.oauth import OAuthDesk
from tests.sources.parcel import registered
from workstation_pipelines.db import credentials, data_sources
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import DataSourceId, SourceType, UserId
from workstation_pipelines.settings import Settings, Vendor
from workstation_pipelines.sync.credentials import Vault

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.db.refreshing"])


@dataclass(frozen=True)
class Wish:
    """Tokens to ask for: so many threads at once, of one data source at a fake vendor."""

    app_url: str
    keys: str
    vendor: dict[str, str]
    user: str
    data_source_id: str
    outcome: str
    style: str = "google"
    threads: int = 1
    rejected: str | None = None
    dies_before_storing: bool = False


def settings(app_url: str, keys: str, vendor: dict[str, str]) -> Settings:
    return Settings(DATABASE_URL=app_url, WORKSTATION_TOKEN_KEYS=SecretStr(keys), DROPBOX=Vendor.model_validate(vendor))


def vendor_settings(desk: OAuthDesk) -> dict[str, str]:
    return {**desk.settings, "api_url": desk.vendor.url}


def start(wish: Wish) -> BaseProcess:
    process = _FORKS.Process(target=_ask, args=(wish,))
    process.start()
    return process


def _ask(wish: Wish) -> None:
    if wish.dies_before_storing:
        credentials.replace = _die  # type: ignore[assignment]  # a power cut, as far as this process can have one
    database = Database(wish.app_url, pool_size=2)
    try:
        with registered(SourceType.DROPBOX, wish.style), ThreadPoolExecutor(wish.threads) as threads:
            vault = Vault(database, settings(wish.app_url, wish.keys, wish.vendor), utc_now)
            user_id = UserId(wish.user)
            with database.transaction_with_rls(user_id) as connection:
                source_id = DataSourceId(UUID(wish.data_source_id))
                source = data_sources.get(connection, user_id=user_id, data_source_id=source_id)
            provider = vault.provider(source)
            assert provider is not None

            def ask(_number: int) -> str:
                try:
                    return provider.access_token(rejected=wish.rejected)
                except WorkstationError as error:
                    return type(error).__name__

            answers = list(threads.map(ask, range(wish.threads)))
    finally:
        database.close()
    Path(wish.outcome).write_text("\n".join(answers))


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
