"""Images whose packages earlier versions could not read: they counted none."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the number of packages unknown: an image without a database of packages has no known number, either."""
    op.execute("UPDATE images SET package_count = NULL WHERE package_count = 0")


def downgrade() -> None:
    """Change nothing: earlier versions know unknown numbers, too."""
