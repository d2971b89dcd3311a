"""Waiting for something, without holding a worker."""
