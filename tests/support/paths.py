"""Where the project's files lie, and photographs beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELIABILITY = ROOT / "benchmarks" / "reliability"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "flickr8k-mini"
"""Photographs with captions, which not every checkout has beside it."""
