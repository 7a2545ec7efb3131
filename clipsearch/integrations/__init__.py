"""Adapters to other frameworks; each module imports its own framework alone, and needs the extra of that name."""
