"""Schedules that are honoured however they were written.

Revision ID: 010_scheduling
"""

revision = "010_scheduling"
down_revision = "009_job_control"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
