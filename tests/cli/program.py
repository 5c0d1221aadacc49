"""Calls the program and keeps what it printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workstation_pipelines import cli
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.model import DataSourceId, SourceType, UserId
from workstation_pipelines.settings import Settings

USER = UserId("dev")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.out)


class Program:
    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        code = cli.main(arguments, lambda: self.settings)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Ran(code, out, err)

    def connect(
        self, name: str, folder: Path, *, user_id: UserId = USER, config: Mapping[str, Any] | None = None
    ) -> DataSource:
        """Add a source without telling Dagster, which takes seconds."""
        database = Database(self.settings.database_url or "")
        try:
            with database.transaction_with_rls(user_id) as connection:
                return data_sources.add(
                    connection,
                    user_id=user_id,
                    data_source_id=DataSourceId(Uuid7()()),
                    name=name,
                    source_type=SourceType.LOCAL_FOLDER,
                    config={"path": str(folder), **(config or {})},
                )
        finally:
            database.close()
