"""Measurements: of the agreement of label maps, and of single objects."""
