"""Scans a model's folder without loading anything of it: what parses hostile files is a worker like what loads them."""

from __future__ import annotations

from fleet.worker_channel import answer, receive
from policies.files.scan import scan
from policies.files.seen import ScanRequest


def main() -> None:
    """Answer one ScanRequest."""
    answer(scan(receive(ScanRequest)))


if __name__ == "__main__":
    main()
