"""Painting: pairs of images and labels, classes, and how much is painted."""
