"""Results as JSON values, as lines for a person, as paths for a program. Writes nothing itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from clipsearch.paths import printable
from clipsearch.types import Hit, Results

EXCERPT = 72
"""Characters of a passage that a table shows."""


def to_payload(results: Results) -> dict[str, Any]:
    """Return the stable JSON form of an answer; the same for the command line and any server.

    part: None for a picture; for a text an object with index, line, end_line and text. also: only where an answer is
    collapsed, the id and path of what repeats a hit.
    """
    return {
        "query": results.query,
        "encoder": results.encoder,
        "library": results.library,
        "hits": [_hit_payload(hit) for hit in results],
    }


def to_json(value: object) -> bytes:
    r"""Encode as one line of UTF-8 JSON; bytes of a path that are not UTF-8 become \udcXX escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def to_paths(hits: Sequence[Hit], end: bytes) -> bytes:
    """Return each file's path once, as raw bytes, each followed by `end`."""
    return b"".join(os.fsencode(path) + end for path in dict.fromkeys(hit.path for hit in hits))


def to_table(results: Results, folder: str) -> str:
    """Return one line a hit: rank, score, confidence, path (short where it lies below `folder`), and the passage."""
    width = len(str(len(results)))
    lines = [f"{'#':>{width}}   score  conf.  file"] if len(results) else []
    for hit in results:
        sure = "   – " if hit.confidence is None else f"{hit.confidence:>4.0%} "
        more = f"  (+{len(hit.also)} like it)" if hit.also else ""
        lines.append(f"{hit.rank:>{width}}  {hit.score:6.3f}  {sure} {_where(hit, folder)}{more}")
        if hit.passage is not None and hit.passage.text:
            lines.append(f"{'':{width}}                 {_excerpt(hit.passage.text)}")
    return "\n".join(lines) + "\n" if lines else ""


def short_path(path: str, folder: str) -> str:
    """Return a path as a terminal may show it, relative where it lies below a folder."""
    start = folder.rstrip(os.sep) + os.sep
    return printable(path[len(start) :] if path.startswith(start) else path)


def _where(hit: Hit, folder: str) -> str:
    path = short_path(hit.path, folder)
    if hit.passage is None:
        return path
    last = f"-{hit.passage.end_line}" if hit.passage.end_line != hit.passage.line else ""
    return f"{path}:{hit.passage.line}{last}"


def _excerpt(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def _hit_payload(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    part = passage and {
        "index": hit.part,
        "line": passage.line,
        "end_line": passage.end_line,
        "text": passage.text,
    }
    payload = {
        "rank": hit.rank,
        "id": hit.item.id,
        "path": hit.path,
        "modality": str(hit.modality),
        "part": part,
        "score": round(hit.score, 6),
        "confidence": None if hit.confidence is None else round(hit.confidence, 6),
    }
    if hit.also is not None:
        payload["also"] = [{"id": item.id, "path": item.path} for item in hit.also]
    return payload
