"""The project folder of a training, kept up to date with the viewer."""
