"""What we remember: MLflow models, DVC lineage, the content store, the ledger and its leases."""
