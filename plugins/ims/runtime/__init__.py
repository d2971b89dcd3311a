"""Where the steps of jobs run.

`base` declares what every runtime does, `choice` returns the one that the setting `runtime` names, and each package
below implements one. A new runtime is a new package, an operator for its steps, and a line in `choice.RUNTIMES`.
"""
