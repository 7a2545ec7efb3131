"""Results as JSON values, as lines for a person, as paths for a program. Writes nothing itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from clipsearch.paths import RECORDS, printable
from clipsearch.sorting import changed_at
from clipsearch.types import Hit, Item, Listing, Modality, PartPosition, Results, TextLine

Found = TypeVar("Found", Hit, Item)

EXCERPT = 72
"""Characters of a passage that a table shows."""

_STEERING = "[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"


def to_payload(results: Results, group: str | None = None) -> dict[str, Any]:
    """Return the stable JSON form of an answer; the same for the command line and any server.

    key: the caller's id of a record, else the path. metadata: by name. modality: of what matched, a picture or words;
    item_modality: of the file. part: None for a picture; for words, an
    object with index, line, end_line and text, be they of a text or of a picture's captions. also: only where an
    answer is collapsed, the id and path of what repeats a hit. recognised: only where text in a picture matches, its
    lines: text, confidence, and box, the four corners [x, y] as shares of the picture's width and height. position:
    only of a part of a film or a document: its index, its time in seconds or its page, and text, as a person reads it.
    suggestions: only where there are any, each with its kind and text. group: `day` puts hits of a day together, and
    adds groups: how many of each day follow each other. understood: only where filters were lifted out of the words;
    see `Results`.
    """
    hits, groups = in_groups(results, group)
    payload: dict[str, Any] = {
        "query": results.query,
        "encoder": results.encoder,
        "library": results.library,
        "hits": [_hit_payload(hit) for hit in hits],
    }
    if results.suggestions:
        payload["suggestions"] = [{"kind": each.kind, "text": each.text} for each in results.suggestions]
    if results.understood is not None:
        payload["understood"] = dict(results.understood)
    return payload if groups is None else {**payload, "groups": groups}


def suggestion_lines(results: Results) -> list[str]:
    """Return the suggestions of an answer for a person, a line of each kind."""
    names = (("spelling", "Spelled otherwise"), ("tag", "Nearest tags"), ("caption", "Nearest captions"))
    lines = []
    for kind, name in names:
        texts = [_excerpt(each.text) for each in results.suggestions if each.kind == kind]
        if texts:
            lines.append(f"{name}: {'; '.join(texts)}")
    return lines


def in_groups(found: Iterable[Found], group: str | None) -> tuple[Sequence[Found], list[dict[str, Any]] | None]:
    """Return hits or items in groups, and how many of each group follow each other; None without groups."""
    if group is None:
        return tuple(found), None
    from clipsearch.days import in_days

    return in_days(found)


def to_json(value: object) -> bytes:
    r"""Encode as one line of UTF-8 JSON; bytes of a path that are not UTF-8 become \udcXX escapes.

    So do characters that could steer a terminal, or turn the order of what is read.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    if not text.isascii():
        text = re.sub(_STEERING, lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def encodable(value: Any) -> Any:  # noqa: ANN401
    r"""Escape the bytes of paths that are not UTF-8 in a JSON value, as `to_json` does; tuples become lists."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {encodable(name): encodable(each) for name, each in value.items()}
    return [encodable(each) for each in value] if isinstance(value, list | tuple) else value


def to_paths(found: Iterable[Hit | Item], end: bytes) -> bytes:
    """Return each file's path once, as raw bytes, each followed by `end`."""
    return b"".join(os.fsencode(path) + end for path in dict.fromkeys(each.path for each in found))


def to_table(results: Results, folder: str, group: str | None = None) -> str:
    """Return one line a hit: rank, score, confidence, path (short where it lies below `folder`), and the passage."""
    width = len(str(len(results)))
    lines = [f"{'#':>{width}}   score  conf.  file"] if len(results) else []
    hits, groups = in_groups(results, group)
    heads = _heads(groups)
    for place, hit in enumerate(hits):
        lines += heads.get(place, ())
        sure = "   – " if hit.confidence is None else f"{hit.confidence:>4.0%} "
        more = f"  (+{len(hit.also)} like it)" if hit.also else ""
        lines.append(f"{hit.rank:>{width}}  {hit.score:6.3f}  {sure} {_where(hit, folder)}{more}")
        indent = f"{'':{width}}                 "
        if hit.recognised:
            lines.append(f"{indent}text in the picture: {_quoted(hit.recognised)}")
        elif hit.passage is not None and hit.passage.text:
            lines.append(f"{indent}{_excerpt(hit.passage.text)}")
        if hit.item.metadata:
            lines.append(f"{indent}{_said(hit.item)}")
        if hit.explanation is not None:
            lines += [f"{indent}{line}" for line in explain(asdict(hit.explanation))]
    return "\n".join(lines) + "\n" if lines else ""


def _heads(groups: Sequence[Mapping[str, Any]] | None) -> dict[int, list[str]]:
    """Return the line above the first of each group, by its place."""
    heads, place = {}, 0
    for each in groups or ():
        heads[place] = [f"{each['day'] or 'no date'} ({each['count']:,})"]
        place += each["count"]
    return heads


def explain(found: Mapping[str, Any]) -> list[str]:
    """Return an explanation, in its JSON form, as lines for a person."""
    lines = [_explain_term(each, found) for each in found["terms"]]
    named = "" if found["words_place"] is None else f", {found['words_place']:,} by words"
    lines.append(f"place {found['place']:,}: {found['meaning_place']:,} by meaning{named}")
    for match in found["words"]:
        lines.append(f"{match['source']}: {_marked(match)}")
    if found["filters"]:
        lines.append(f"meets {'; '.join(found['filters'])}")
    if found["above_next"]:
        lines.append(f"above the next: {found['above_next']}")
    return [printable(line) for line in lines]


def _explain_term(term: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    sure = "" if term["confidence"] is None else f", {term['confidence']:.0%}"
    worth = "" if term["log_evalue"] is None else f", stands out by {term['log_evalue']:.1f}"
    sign = "- " if term["weight"] < 0 else ""
    size = "" if abs(term["weight"]) == 1 else f"{abs(term['weight']):g}:"
    part = "picture" if term["modality"] == Modality.IMAGE else "words"
    where = f"place {term['place']:,} among the {part if part == 'words' else 'pictures'}"
    return f"{sign}{size}{_excerpt(term['term'])} / {part}: {term['score']:.3f}{sure}{worth}, {where}"


def _marked(match: Mapping[str, Any]) -> str:
    """Return the beginning of a text with the words that match in brackets."""
    text, end, marked = match["text"], 0, ""
    begin = max(0, match["spans"][0][0] - EXCERPT // 3)
    stop = begin + EXCERPT
    for start, after in match["spans"]:
        if start < max(end, begin) or after > stop:
            continue
        marked += f"{text[max(end, begin) : start]}[{text[start:after]}]"
        end = after
    marked += text[max(end, begin) : stop]
    return f"{'…' if begin else ''}{' '.join(marked.split())}{'…' if stop < len(text) else ''}"


def listing_payload(found: Listing, group: str | None = None) -> dict[str, Any]:
    """Return the stable JSON form of a listing; the same for the command line and any server.

    group: see `to_payload`.
    """
    items, groups = in_groups(found, group)
    payload = {"library": found.library, "total": found.total, "items": [item_payload(item) for item in items]}
    return payload if groups is None else {**payload, "groups": groups}


def shape_listing(found: Listing, shape: str, folder: str, group: str | None = None) -> bytes:
    """Return a listing in a shape: `table`, `json`, `paths` or `print0`; paths below `folder` are short in a table."""
    if shape == "json":
        return to_json(listing_payload(found, group))
    items, groups = in_groups(found, group)
    if shape != "table":
        return to_paths(items, b"\0" if shape == "print0" else b"\n")
    lines = [f"{'id':>7}  {'date':17}  {'pixels':11}  file"] if len(found) else []
    heads = _heads(groups)
    for place, item in enumerate(items):
        lines += heads.get(place, ())
        size = f"{item.picture.width} x {item.picture.height}" if item.picture and item.picture.width else ""
        said = f"  {_said(item)}" if item.metadata else ""
        lines.append(f"{item.id:>7}  {_date(item):17}  {size:11}  {_name(item, folder)}{said}")
    return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


def short_path(path: str, folder: str) -> str:
    """Return a path as a terminal may show it, relative where it lies below a folder."""
    start = folder.rstrip(os.sep) + os.sep
    return printable(path[len(start) :] if path.startswith(start) else path)


def _name(item: Item, folder: str) -> str:
    """Return the path of an item, and of a record also the id that its caller gave."""
    path = short_path(item.path, folder)
    return path if item.path.removeprefix(RECORDS) == item.key else f"{path} ({printable(item.key)})"


def _said(item: Item) -> str:
    """Return the metadata of an item as conditions are written, cut to a line."""
    pairs = item.metadata.items()
    return _excerpt(
        "  ".join(f"{n}={v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for n, v in pairs)
    )


def _where(hit: Hit, folder: str) -> str:
    path = _name(hit.item, folder)
    if hit.position is not None:
        return f"{path} ({hit.position})"
    if hit.passage is None or hit.item.modality is Modality.IMAGE:  # lines of a caption are those of no file
        return path
    last = f"-{hit.passage.end_line}" if hit.passage.end_line != hit.passage.line else ""
    return f"{path}:{hit.passage.line}{last}"


def _excerpt(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def _quoted(lines: Sequence[TextLine]) -> str:
    """Return what lines of a picture say, and where the first of them stands."""
    return f'"{_excerpt(" / ".join(line.text for line in lines))}" ({_position(lines[0])})'


def _position(line: TextLine) -> str:
    """Tell in which ninth of the picture the middle of a line lies, such as `top right`."""
    across, down = (sum(corner[i] for corner in line.box) / max(1, len(line.box)) for i in (0, 1))
    row, column = _third(down, "top", "bottom"), _third(across, "left", "right")
    return f"{row} {column}".strip() or "centre"


def _third(place: float, first: str, last: str) -> str:
    return first if place < 1 / 3 else last if place > 2 / 3 else ""


def _date(item: Item) -> str:
    """Return when a picture was taken, else when the file was last changed, with a ~; nothing for a record."""
    if item.picture is not None and item.picture.taken_at is not None:
        return f" {item.picture.taken_at:%Y-%m-%d %H:%M}"
    changed = changed_at(item)
    return "" if changed is None else f"~{changed:%Y-%m-%d %H:%M}"


def item_payload(item: Item) -> dict[str, Any]:
    """Return the stable JSON form of an item."""
    picture = item.picture
    taken = picture.taken_at if picture else None
    return {
        "id": item.id,
        "key": item.key,
        "path": item.path,
        "modality": str(item.modality),
        "taken_at": taken and taken.isoformat(),
        "camera": picture and picture.camera,
        "width": picture and picture.width,
        "height": picture and picture.height,
        "latitude": picture and picture.latitude,
        "longitude": picture and picture.longitude,
        "caption": item.caption,
        "text": item.text,
        "metadata": dict(item.metadata),
        "tags": list(item.tags),
        "media": item.media and str(item.media.media),
        "duration": item.media and item.media.duration,
        "pages": item.media and item.media.pages,
    }


def position_payload(number: int, position: PartPosition) -> dict[str, Any]:
    """Return the stable JSON form of where a part lies. number: of the part."""
    where = {"page": position.page} if position.page is not None else {"time": position.time}
    return {"index": number, **where, "text": str(position)}


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
        "key": hit.item.key,
        "path": hit.path,
        "modality": str(hit.modality),
        "item_modality": str(hit.item.modality),
        "part": part,
        "score": round(hit.score, 6),
        "confidence": None if hit.confidence is None else round(hit.confidence, 6),
        "metadata": dict(hit.item.metadata),
    }
    if hit.recognised:
        payload["recognised"] = [
            {"text": line.text, "box": [list(corner) for corner in line.box], "confidence": line.confidence}
            for line in hit.recognised
        ]
    if hit.position is not None:
        payload["position"] = position_payload(hit.part, hit.position)
    if hit.explanation is not None:
        payload["explanation"] = asdict(hit.explanation)
    if hit.also is not None:
        payload["also"] = [{"id": item.id, "path": item.path} for item in hit.also]
    return payload
