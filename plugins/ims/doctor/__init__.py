"""The checks of `ims doctor`: what this machine, its S3 and its cluster provide, and what is missing.

A check is a function that takes the settings and returns a finding; `ims.doctor.checks` has the table of all.
"""
