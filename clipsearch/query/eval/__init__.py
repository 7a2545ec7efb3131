"""Evaluation of a library against known answers."""
