"""`make demo`: the stack and the `ims` client's code together, from a recipe to a registered image."""
