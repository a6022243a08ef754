"""Alembic migrations of the ledger; old ledgers are brought forward and never rewritten."""
