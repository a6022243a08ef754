"""The story: one Prefect flow per file."""
