"""The work of the workflows: one module a step, each a program with typed input and output.

`python -m ims.steps NAME INPUT --result FILE` runs one: INPUT is JSON, the result (or the error) is written to FILE as
JSON. Exit codes are those of `ims.errors`. Nothing below here imports Airflow.
"""
