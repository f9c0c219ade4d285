"""Search of a space that is too large to price every point of it. See docs/search.md."""
