"""Metrics inside mmengine's own loops, and mmsegmentation's datasets."""
