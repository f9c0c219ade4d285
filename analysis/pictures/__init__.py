"""Pictures of results for papers and slides: one kind a file, each with `draw(..., path)` (docs/pictures.md)."""
