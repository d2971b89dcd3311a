"""The steps of the workflows: one program each, with typed input and output.

`python -m ims.steps NAME --result FILE` runs the step NAME. It reads its input as JSON from standard input, or from the
file that `--input` names: every user of the machine can read the arguments of a process. The result or the error is
written to FILE as JSON. Exit codes are those of `ims.errors`. Steps know nothing of Airflow.
"""
