"""Labelled images: cases, their labels, and how they become batches to learn from."""

SPLITS = ("train", "val", "test")
"""The parts of a data set, and the names of their folders."""
