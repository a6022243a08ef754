"""Employment of people in Massachusetts: the demo's data, its four model versions and their mistakes."""
