"""Retention: expiring images, purging tombstones and removing orphans from S3."""
