"""Events that somebody should know of, and the webhooks that tell them.

Revision ID: 016_events
"""

revision = "016_events"
down_revision = "015_index_outbox"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
