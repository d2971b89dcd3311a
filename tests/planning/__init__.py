"""Plans after any sequence of changes."""
