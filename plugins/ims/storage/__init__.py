"""Objects in S3: reading, writing, manifests, checksums and temporary credentials."""
