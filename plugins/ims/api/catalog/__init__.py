"""Recipes, images and public keys: the records that users register and delete."""
