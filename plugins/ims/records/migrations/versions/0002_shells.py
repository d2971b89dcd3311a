"""The shells of jobs."""

import sqlalchemy as sa
from alembic import op

from ims.records.models import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "shells",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("jail", sa.Boolean(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("operation", sa.String(16), nullable=True),
        sa.Column("closed", UtcDateTime(), nullable=True),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("shells")
