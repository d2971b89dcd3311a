"""What deletes for good: purging tombstones, expiring images, sweeping objects that no record names."""
