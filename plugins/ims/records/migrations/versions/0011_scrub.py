"""When the objects of an image were last read, and what was wrong with them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("images", sa.Column("scrubbed", sa.DateTime(timezone=True), nullable=True))
    op.add_column("images", sa.Column("damage", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("images", "damage")
    op.drop_column("images", "scrubbed")
