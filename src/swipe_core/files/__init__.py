"""Files that are no images: written whole or not at all, YAML, and what ships with the package."""
