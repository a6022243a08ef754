"""The ledger's signed tree heads, as they were signed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; a ledger from before has no head until the next one is signed."""
    op.create_table(
        "tree_heads",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("envelope", sa.Text, nullable=False),
    )
