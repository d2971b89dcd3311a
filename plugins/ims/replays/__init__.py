"""Replays: nights repeat the customizations of images by scripts and playbooks."""
