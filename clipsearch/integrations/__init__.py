"""Adapters of other libraries, one file each; each imports its library and the public API of clipsearch alone."""
