"""Steps and records as Airflow tasks."""
