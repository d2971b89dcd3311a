"""Image management: recipes become images that nodes boot."""
