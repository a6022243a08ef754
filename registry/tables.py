"""The ledger's tables as the queries see them; the migrations create them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, Text, UniqueConstraint

METADATA = MetaData()

EVENTS = Table(
    "events",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("schema", Integer, nullable=False),
    Column("stream", String(255), nullable=False),
    Column("stream_seq", BigInteger, nullable=False),
    Column("type", String(255), nullable=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("intent_id", String(255)),
    Column("effect_key", String(255)),
    Column("payload", Text, nullable=False),
    Column("previous_hash", String(71), nullable=False),
    Column("hash", String(71), nullable=False),
    UniqueConstraint("stream", "stream_seq", name="uq_events_stream_seq"),
)

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(71), nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("model", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("expires_at", String(32), nullable=False),
)

TREE_HEADS = Table(
    "tree_heads",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("envelope", Text, nullable=False),
)
