"""One file of a corpus: read safely, decoded, with its metadata."""
