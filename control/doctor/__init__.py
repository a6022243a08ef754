"""The examination of an installation: it looks, names what is wrong and what to type, and changes nothing."""
