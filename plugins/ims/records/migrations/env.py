"""Alembic's entry point; `ims.records.database.migrate` passes the connection."""

from alembic import context

from ims.records.models import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
