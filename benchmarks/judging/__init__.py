"""Simulated releases, and the rules that judge them: Convoy's own, its peers' as documented, and one that knows the truth."""
