"""Documents processed in bulk, with an outcome each.

Revision ID: 013_processing
"""

revision = "013_processing"
down_revision = "012_transformations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
