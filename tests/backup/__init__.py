"""Tests of ims.backup."""
