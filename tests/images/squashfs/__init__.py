"""Splicing squashfs."""
