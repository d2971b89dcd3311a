"""Jobs: runs of `create_image` and `customize_image`, with their logs and shells."""
