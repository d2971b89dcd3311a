"""Tests of turning changes into scripts."""
