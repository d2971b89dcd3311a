"""Inputs from people who do this job, each with what is right."""
