"""Where the steps of jobs run.

`base` declares what every runtime does, `choice` returns the one that the setting `runtime` names, and each package
below implements one. A new runtime needs a package here, an operator for its steps in `ims.operators`, a line in
`choice.RUNTIMES`, a value of the setting `runtime` in `ims.settings`, and a decision about other architectures in
`ims.api.runs.job_checks`. The section "Add a runtime" of CONTRIBUTING.md lists these places and the tests.
"""
