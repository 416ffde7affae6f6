"""Labelled images: cases, their labels, and how they become batches to learn from."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
"""The parts of a data set, and the names of their folders."""
