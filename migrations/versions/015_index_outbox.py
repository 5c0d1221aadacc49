"""What an index outside the database still has to be told.

Revision ID: 015_index_outbox
"""

revision = "015_index_outbox"
down_revision = "014_index_builds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
