"""Open-world evaluation: exact, comparable numbers on where a segmentation network is out of its depth."""
