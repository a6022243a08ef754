"""What Convoy says about itself."""

from __future__ import annotations

VERSION = "0.1.0"
"""Convoy's version; a test keeps it equal to the one in pyproject.toml."""
