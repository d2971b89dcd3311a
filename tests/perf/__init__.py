"""Benchmarks. They compare results of one run on one machine; no test depends on a time."""
