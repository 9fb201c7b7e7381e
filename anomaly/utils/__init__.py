"""Helpers without dependencies on the rest of the package: checks of values and names, files, threads."""
