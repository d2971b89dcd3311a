"""Turns the changes of a customization into a script that repeats them, and lists what a script cannot repeat."""
