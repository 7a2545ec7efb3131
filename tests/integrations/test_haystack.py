"""Haystack: the suites of its document stores, and what they leave out."""
