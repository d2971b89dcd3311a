"""The database of records: recipes, images, public keys and the shells of jobs."""
