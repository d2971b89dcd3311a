"""Recipes, images and public keys."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from ims.records.models import UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    common: tuple[sa.Column[Any], ...] = (
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("deleted", UtcDateTime(), nullable=True),
    )
    linked: tuple[sa.Column[Any], ...] = (
        sa.Column("link", sa.JSON(), nullable=True),
        sa.Column("link_path", sa.Text(), nullable=True),
        sa.Column("arch", sa.String(16), nullable=False),
    )
    op.create_table("public_keys", *[c._copy() for c in common], sa.Column("public_key", sa.Text(), nullable=False))
    op.create_table(
        "recipes",
        *[c._copy() for c in common + linked],
        sa.Column("recipe_type", sa.String(32), nullable=False),
        sa.Column("linux_distribution", sa.String(64), nullable=False),
        sa.Column("template_dictionary", sa.JSON(), nullable=False),
        sa.Column("require_dkms", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "images",
        *[c._copy() for c in common + linked],
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=True),
    )
    op.create_index("ix_images_job_id", "images", ["job_id"])
    living = sa.text("deleted IS NULL")
    for table in ("recipes", "images"):
        op.create_index(
            f"{table}_link_path",
            table,
            ["link_path"],
            unique=True,
            sqlite_where=living,
            postgresql_where=living,
        )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("images", "recipes", "public_keys"):
        op.drop_table(table)
