"""Image roots: the tree of files that an image is made of."""
