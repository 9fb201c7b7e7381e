"""Open-world evaluation: exact, comparable numbers on where a segmentation network is out of its depth."""

__version__ = "0.2.0"
