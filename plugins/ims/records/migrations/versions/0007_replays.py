"""Nightly replays of customizations."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("images", sa.Column("customization_digest", sa.String(64), nullable=True))
    op.add_column("images", sa.Column("nightly", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("images", sa.Column("nightly_failures", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the columns."""
    for column in ("nightly_failures", "nightly", "customization_digest"):
        op.drop_column("images", column)
