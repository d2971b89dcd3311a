"""S3: objects, links to them, digests and the image manifest. Nothing else in the project imports boto3."""
