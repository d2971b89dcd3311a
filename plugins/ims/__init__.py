"""Image management: recipes become images that nodes boot."""

__version__ = "0.4.0"
