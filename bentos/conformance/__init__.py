"""Whether a server, or an image of one, keeps the contracts of those who run it."""
