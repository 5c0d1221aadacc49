"""What work costs: billing records, metrics and budgets.

Revision ID: 011_metering
"""

revision = "011_metering"
down_revision = "010_scheduling"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
