"""The networks that the paper compares SwIPE with, each written from its own paper."""
