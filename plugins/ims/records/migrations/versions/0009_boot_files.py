"""The names of the files in /boot of the images of a recipe."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    for name in ("kernel_file_name", "initrd_file_name", "kernel_parameters_file_name"):
        op.add_column("recipes", sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    for name in ("kernel_parameters_file_name", "initrd_file_name", "kernel_file_name"):
        op.drop_column("recipes", name)
