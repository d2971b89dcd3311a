"""Runs of workflows as Airflow's public API describes them; nights and plans; the trigger guard."""
