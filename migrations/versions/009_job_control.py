"""Jobs that can be asked for, paused, resumed, confirmed and stopped, and the traces of who lives.

Revision ID: 009_job_control
"""

revision = "009_job_control"
down_revision = "008_source_state"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
