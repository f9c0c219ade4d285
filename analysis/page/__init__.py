"""One interactive page of a result: HTML with its data, style and script in one file that works from disk."""
