"""Examples of answers and of parameters, for the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

_ITEM: dict[str, Any] = {
    "id": 17,
    "key": "/srv/photos/2024/sofa.jpg",
    "path": "/srv/photos/2024/sofa.jpg",
    "modality": "image",
    "taken_at": "2024-06-01T12:30:00",
    "camera": "Canon EOS R6",
    "width": 6000,
    "height": 4000,
    "latitude": 52.52,
    "longitude": 13.405,
    "caption": "a cat on a sofa",
    "text": None,
    "metadata": {"rating": 5},
    "tags": ["cat"],
    "media": None,
    "duration": None,
    "pages": None,
    "content_hash": "5f2b8c0d9e1a4f376a0d5c8e7b1f2a3940c6d7e8",
    "thumbnail": "/v1/items/17/thumbnail?v=5f2b8c0d9e1a4f37",
}
_HIT = {**_ITEM, "rank": 1, "item_modality": "image", "score": 0.2841, "confidence": 0.97, "part": None}
_MATCH = {**_ITEM, "rank": 1, "score": 0.918765, "points": 188, "box": [0.4, 0.13, 0.55, 0.55], "mirrored": True}
_UNREAD = {"id": 4, "path": "/srv/photos/gone.jpg", "score": 0.61, "reason": "there is no such file"}
_LIBRARY = "/srv/photos/.clipsearch"
_COUNTED = {
    "months": [{"value": "2024-06", "count": 80}],
    "cameras": [{"value": "Canon EOS R6", "count": 100}],
    "folders": [{"value": "/srv/photos", "count": 120}],
    "tags": [{"value": "cat", "count": 12}],
    "modalities": [{"value": "image", "count": 117}, {"value": "text", "count": 3}],
}
_JOB = {
    "id": "5f2b8c0d9e1a4f37",
    "state": "running",
    "paths": ["/srv/photos"],
    "started": "2024-06-01T12:30:00Z",
    "ended": None,
    "done": 64,
    "total": 120,
    "error": None,
    "report": None,
}

_REPORT = {
    "added": 118,
    "changed": 0,
    "moved": 0,
    "removed": 0,
    "unchanged": 0,
    "encoded": 118,
    "failures": 1,
    "failed": [{"path": "/srv/photos/broken.jpg", "reason": "truncated JPEG file (40% of its rows are there)"}],
    "notes": [{"path": "/srv/photos/beach.jpg", "note": "4.0% of its rows are missing"}],
    "passed_over": {".psb": 3, ".ini": 1},
    "beside": 0,
    "live_photos": 1,
    "offline": [],
    "read": 0,
    "with_text": 0,
    "seconds": 12.5,
}

ANSWERS: dict[str, dict[str, Any]] = {
    "Answer": {
        "query": "a cat on a sofa",
        "encoder": "builtin-base",
        "library": _LIBRARY,
        "hits": [_HIT],
        "confident": True,
        "warnings": [],
        "left_out": 0,
        "next_offset": 10,
    },
    "Changed": {"items": 2},
    "Matches": {
        "query": "picture",
        "encoder": "builtin-base",
        "library": _LIBRARY,
        "matches": [_MATCH],
        "compared": 8,
        "unread": [_UNREAD],
        "warnings": [],
    },
    "CollectionView": {"name": "Summer", "count": 12, "cover": 17},
    "Embeddings": {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
        "model": "builtin-base",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    },
    "Facets": {"total": 120, **_COUNTED},
    "Item": _ITEM,
    "JobList": {
        "jobs": [_JOB | {"state": "done", "ended": "2024-06-01T12:30:12Z", "done": 120, "report": _REPORT}],
    },
    "JobView": _JOB,
    "Listing": {"library": _LIBRARY, "total": 120, "items": [_ITEM], "warnings": [], "next_offset": 100},
    "Looked": {"items": [{**_ITEM, "size": 4_812_345, "mtime_ns": 1_717_237_800_000_000_000}, None]},
    "Page": {"items": [_ITEM], "warnings": [], "cursor": "17"},
    "Places": {
        "total": 100,
        "clusters": [{"latitude": 52.52, "longitude": 13.405, "count": 100, "id": 17}],
        "bounds": [52.5, 13.3, 52.6, 13.5],
    },
    "Problem": {
        "type": "urn:clipsearch:problem:query-syntax",
        "title": "The query cannot be read",
        "status": 422,
        "detail": 'A quote is not closed. Close it with ".',
        "position": 7,
    },
    "RecordsAdded": {
        "added": 1,
        "replaced": 0,
        "unchanged": 0,
        "failed": [{"id": "sku-17", "reason": "not a picture that clipsearch can read"}],
        "seconds": 0.12,
    },
    "SavedSearchAnswer": {
        "query": "a beach",
        "encoder": "builtin-base",
        "library": _LIBRARY,
        "hits": [_HIT],
        "confident": True,
        "warnings": [],
        "left_out": 0,
        "next_offset": 10,
        "k": 10,
        "offset": 0,
        "mark": None,
    },
    "SavedSearchView": {
        "name": "beaches",
        "query": "a beach",
        "options": {"k": 50, "filters": {"tags": ["summer"]}},
        "saved_at": "2024-06-01T12:30:00.000000+00:00",
    },
    "SessionView": {"needs_token": True, "writable": False},
    "State": {"status": "ready"},
    "Stats": {
        "library": _LIBRARY,
        "items": 120,
        "pictures": 117,
        "texts": 3,
        "encoder": "builtin-base",
        "dimensions": 512,
        "writable": False,
        "version": "1.0.0",
    },
    "Understood": {
        "text": "beach",
        "filters": {"taken_from": "2023-07-01T00:00:00", "taken_until": "2023-08-01T00:00:00"},
        "parts": ["taken in July 2023"],
        "without": [],
        "description": "beach, taken in July 2023",
    },
    "Vectors": {"dimensions": 2, "data": "mpkZP83MTL8="},
}
"""An answer of each model that a route returns."""

_EXPORTED: tuple[dict[str, Any], ...] = (
    {
        "header": {
            "format": "clipsearch-export-stream",
            "version": 1,
            "encoder": {"name": "builtin-base", "fingerprint": "9f2c41d7", "dim": 2},
            "items": 1,
            "vectors": {"image": 1, "text": 0},
            "settings": {},
            "collections": [[1, "Summer"]],
        }
    },
    {
        "item": {
            "id": 17,
            "key": "/srv/photos/2024/sofa.jpg",
            "path": "/srv/photos/2024/sofa.jpg",
            "root": 1,
            "name": "2024/sofa.jpg",
            "modality": "image",
            "size": 4_812_345,
            "mtime_ns": 1_717_237_800_000_000_000,
            "content_hash": "5f2b8c0d9e1a4f376a0d5c8e7b1f2a3940c6d7e8",
            "caption": "a cat on a sofa",
            "tags": [["cat", "user", None]],
            "collections": [["Summer", 0]],
        }
    },
    {"vector": {"modality": "image", "row": 0, "item": 17, "part": 0}, "data": "mpkZP83MTL8="},
    {
        "end": {
            "kept": 0,
            "roots": [
                {
                    "id": 1,
                    "path": "/srv/photos",
                    "exclude": [],
                    "include_hidden": False,
                    "offline": False,
                    "kind": "folder",
                    "options": "{}",
                }
            ],
        }
    },
)
EXPORT = "".join(f"{json.dumps(line)}\n" for line in _EXPORTED)
"""The lines of an export."""

PARAMETERS: dict[str, Any] = {
    "after": "2024-06",
    "before": "2025",
    "camera": ["Canon"],
    "place": ["Spain"],
    "collection": ["Summer"],
    "caption": "cat sofa",
    "during": "2024-06",
    "folder": ["/srv/photos/2024"],
    "id": [17],
    "item_id": 17,
    "job_id": "5f2b8c0d9e1a4f37",
    "k": 10,
    "key": ["sku-17"],
    "limit": 100,
    "min_confidence": 0.9,
    "suggest": True,
    "modality": "image",
    "name": "Summer",
    "offset": 0,
    "part": 3,
    "q": "a cat on a sofa",
    "size": 256,
    "length": 400,
    "tag": ["cat"],
    "type": ["image"],
    "v": "5f2b8c0d9e1a4f37",
    "where": ["rating>=4"],
}
"""A value of each parameter, by its name, where that is not said with the parameter."""
