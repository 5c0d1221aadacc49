"""Rules that change, filter and file documents on their way in.

Revision ID: 012_transformations
"""

revision = "012_transformations"
down_revision = "011_metering"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
