"""The library on disk: catalog, vectors, generations of approximate indexes."""
