"""Token buckets that all processes share: how often an account may be asked, decided by the database's clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import SourceUnavailableError

# A bucket's level is not worth a flush to disk: losing a crash's last moment costs a few calls.
_TAKE = text(
    "SELECT set_config('synchronous_commit', 'off', true), app.rate_take(:bucket, :per_s, :burst, :cost) AS wait_s"
)
_PENALISE = text("SELECT set_config('synchronous_commit', 'off', true), app.rate_penalise(:bucket, :wait_s)")
_MOST_BUCKET_CHARS = 500  # as the table has it


class PostgresPacer:
    """A Pacer for all processes on one database; each take is a transaction of its own, one statement long.

    Of what a bucket gives, no window of `t` seconds holds more than `burst + per_s * t`. Both methods raise
    SourceUnavailableError when the database cannot be reached, or has no connection left for this process.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
        """Take `cost` tokens and return how many seconds to wait before using them.

        When that would be more than five seconds nothing is taken: it is worth asking again after what is returned.
        A cost above `burst` is granted by a full bucket, which then owes the rest.
        """
        bucket = key[:_MOST_BUCKET_CHARS]
        with self._connection() as connection:
            row = connection.execute(_TAKE, {"bucket": bucket, "per_s": per_s, "burst": burst, "cost": cost}).one()
        return float(row.wait_s)

    def penalise(self, key: str, *, wait_s: float) -> None:
        """Keep everyone from this bucket for `wait_s`, an hour at most; the longest penalty counts."""
        with self._connection() as connection:
            connection.execute(_PENALISE, {"bucket": key[:_MOST_BUCKET_CHARS], "wait_s": wait_s})

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._database.across_users() as connection:
                yield connection
        except PoolTimeoutError as error:
            raise SourceUnavailableError(
                "all connections to the database are in use: try again later, or run fewer syncs at once", wait_s=5
            ) from error
