"""The pages in the Airflow UI. Each page has a module with its routes, and a template that extends `base.html`."""
