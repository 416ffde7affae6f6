"""Widgets and threads that know nothing of segmentation."""
