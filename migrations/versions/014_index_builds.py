"""A second index beside the live one, to compare with and to switch to.

Revision ID: 014_index_builds
"""

revision = "014_index_builds"
down_revision = "013_processing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
