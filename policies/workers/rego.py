"""Decides by a policy that is not Convoy's own, or runs its tests, where it can be stopped."""

from __future__ import annotations

from fleet.worker_channel import answer, receive
from policies.rego.asking import RegoRequest, answer_of


def main() -> None:
    """Answer one RegoRequest."""
    answer(answer_of(receive(RegoRequest)))


if __name__ == "__main__":
    main()
