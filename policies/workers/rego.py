"""Decides by a policy that is not Convoy's own, or runs its tests, where it can be stopped."""

from __future__ import annotations

from policies.rego.asking import RegoRequest, answer_of
from policies.workers.channel import answer, receive


def main() -> None:
    """Answer one RegoRequest."""
    answer(answer_of(receive(RegoRequest)))


if __name__ == "__main__":
    main()
