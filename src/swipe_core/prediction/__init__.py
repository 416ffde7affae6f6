"""Prediction at scale: images larger than memory, and many images on many processes."""
