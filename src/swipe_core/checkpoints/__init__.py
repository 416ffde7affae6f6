"""Trained models as files: weights, header, card, and where they are found by name."""
