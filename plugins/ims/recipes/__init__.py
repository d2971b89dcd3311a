"""Recipes: archives, templates, and what a kiwi description says."""
