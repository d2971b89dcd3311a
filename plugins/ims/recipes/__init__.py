"""Recipes: archives, templates, kiwi descriptions, package requests and plans."""
