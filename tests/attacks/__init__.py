"""Attacks on the product, each through the interface that an attacker has."""
