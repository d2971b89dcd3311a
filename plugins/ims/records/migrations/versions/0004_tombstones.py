"""Purging of tombstones and their objects; indexes for pages of records."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns, the table of image objects and the indexes."""
    for table in ("public_keys", "recipes", "images"):
        op.add_column(table, sa.Column("purging", sa.Boolean(), nullable=False, server_default=sa.false()))
        op.create_index(f"{table}_created", table, ["created", "id"])
        op.create_index(f"{table}_name", table, ["name", "created", "id"])
    for table in ("recipes", "images"):
        op.create_index(f"{table}_any_link_path", table, ["link_path"])
    op.create_table(
        "image_objects",
        sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("path", sa.Text(), primary_key=True),
    )
    op.create_index("ix_image_objects_path", "image_objects", ["path"])


def downgrade() -> None:
    """Drop the columns, the table of image objects and the indexes."""
    op.drop_table("image_objects")
    for table in ("recipes", "images"):
        op.drop_index(f"{table}_any_link_path", table)
    for table in ("public_keys", "recipes", "images"):
        op.drop_index(f"{table}_name", table)
        op.drop_index(f"{table}_created", table)
        op.drop_column(table, "purging")
