"""The steps of the workflows: one program each, with typed input and output.

`python -m ims.steps NAME INPUT --result FILE` runs the step NAME. INPUT is JSON. The result or the error is written
to FILE as JSON. Exit codes are those of `ims.errors`. Steps know nothing of Airflow.
"""
