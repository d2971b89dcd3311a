"""Backups of an installation on one machine: the records, Airflow's database, the secrets, a list of the objects."""
