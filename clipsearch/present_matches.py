"""What a picture was made from, as JSON, as a table, and as paths: the same for the command line and any server."""

from __future__ import annotations

from typing import Any

from clipsearch.matches import Match, Matches
from clipsearch.present import position_payload, short_path, to_json


def to_payload(found: Matches) -> dict[str, Any]:
    """Return the stable JSON form.

    box: left, top, width and height, as shares of the picture that was found. points: how many agree. position: only
    of a film or a document. unread: candidates that could not be compared, the most similar first.
    """
    unread = [
        {"id": each.item.id, "path": each.item.path, "score": round(each.score, 6), "reason": each.reason}
        for each in found.unread
    ]
    matches = [match_payload(match) for match in found]
    head = {"query": found.query, "encoder": found.encoder, "library": found.library, "matches": matches}
    return {**head, "compared": found.compared, "unread": unread}


def match_payload(match: Match) -> dict[str, Any]:
    """Return the stable JSON form of a match."""
    payload = {
        "rank": match.rank,
        "id": match.item.id,
        "key": match.item.key,
        "path": match.path,
        "score": round(match.score, 6),
        "points": match.points,
        "box": list(match.box),
        "mirrored": match.mirrored,
    }
    return payload if match.position is None else {**payload, "position": position_payload(match.part, match.position)}


def to_table(found: Matches, folder: str) -> str:
    """Return one line a match: rank, points, where it lies, path (short where it lies below `folder`)."""
    lines = [f"#  points  {'left,top,width,height':>21}  file"] if len(found) else []
    for match in found:
        box = ",".join(f"{edge:.0%}" for edge in match.box)
        where = "" if match.position is None else f" ({match.position})"
        mirrored = "  (mirrored)" if match.mirrored else ""
        lines.append(f"{match.rank}  {match.points:>6}  {box:>21}  {short_path(match.path, folder)}{where}{mirrored}")
    return "".join(line + "\n" for line in lines)


def shape_matches(found: Matches, shape: str, folder: str) -> bytes:
    """Return matches in a shape: `table`, `json`, `paths` or `print0`; paths below `folder` are short in a table."""
    if shape == "json":
        return to_json(to_payload(found))
    if shape == "table":
        return to_table(found, folder).encode("utf-8", "backslashreplace")
    from clipsearch.present import to_paths

    return to_paths((match.item for match in found), b"\0" if shape == "print0" else b"\n")
