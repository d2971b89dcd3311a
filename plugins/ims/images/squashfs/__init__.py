"""Squashfs 4.0: reads the metadata of a file system, and makes a new one from an old one and a layer of changes.

`splice.splice` is the entry point. Everything in an image is hostile: every size and position is checked.
"""
