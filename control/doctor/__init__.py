"""The examination of an installation: it looks, names what is wrong and what to type, and changes nothing.

A store that lies elsewhere is given a small blob, which is deleted again: whether it can be written shows in no other way.
"""
