"""Between the layers of napari and the images of the core."""
