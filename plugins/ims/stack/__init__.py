"""The embedded default: S3 and Airflow on this machine, under supervisord."""
