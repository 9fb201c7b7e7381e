"""Checkpoints of the published code, and those that a training writes."""
