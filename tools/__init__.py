"""Tools of those who maintain the project: pages of models, releases, and pictures of the window."""
