"""What we want: the declared fleet, the nouns that every room shares, settings and errors."""
