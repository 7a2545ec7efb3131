"""Nearest-neighbour indexes over the stored vectors."""
