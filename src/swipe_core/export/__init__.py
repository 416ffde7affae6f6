"""The boundary as files of other programs: meshes, contours, and tables of what was measured from it."""
