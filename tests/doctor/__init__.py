"""Checks of `ims doctor`."""
