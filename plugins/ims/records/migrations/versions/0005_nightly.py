"""Nightly builds of recipes; the source recipe and the packages of images."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns and the table of packages."""
    op.add_column("recipes", sa.Column("nightly", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("recipes", sa.Column("nightly_failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("images", sa.Column("source_recipe_id", sa.String(36), nullable=True))
    op.add_column("images", sa.Column("checked", sa.DateTime(timezone=True), nullable=True))
    op.add_column("images", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("images", sa.Column("kernels", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("images", sa.Column("package_count", sa.Integer(), nullable=True))
    op.create_index("ix_images_source_recipe_id", "images", ["source_recipe_id"])
    op.create_table(
        "image_packages",
        sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), primary_key=True),
        sa.Column("arch", sa.String(32), primary_key=True),
        sa.Column("type", sa.String(8), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("license", sa.Text(), nullable=False),
    )
    op.create_index("ix_image_packages_name", "image_packages", ["name"])


def downgrade() -> None:
    """Drop the columns and the table of packages."""
    op.drop_table("image_packages")
    op.drop_index("ix_images_source_recipe_id", "images")
    for column in ("package_count", "kernels", "pinned", "checked", "source_recipe_id"):
        op.drop_column("images", column)
    for column in ("nightly_failures", "nightly"):
        op.drop_column("recipes", column)
