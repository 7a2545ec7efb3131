"""Encoders: pictures and texts to unit-length vectors in one space."""
