"""The source of a customized image, its changes, and the page of the run that opened a shell."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("images", sa.Column("source_image_id", sa.String(36), nullable=True))
    op.add_column("images", sa.Column("changes", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("shells", sa.Column("run_url", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_images_source_image_id", "images", ["source_image_id"])


def downgrade() -> None:
    """Drop the columns."""
    op.drop_index("ix_images_source_image_id", "images")
    op.drop_column("shells", "run_url")
    op.drop_column("images", "changes")
    op.drop_column("images", "source_image_id")
