"""Checkpoints: those that a training writes, and those of the published code."""
