"""The files of the page, as they lie in the package: read once, named by a closed list, compressed once."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

INDEX: Final = "index.html"

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""What the page may load and do (Content Security Policy Level 3, Trusted Types): only what this server sends."""

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}

_ZERO: Final = re.compile(r"q=0(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        data: Its bytes.
        packed: The same, compressed by gzip; None where that saves nothing.
        tag: Names the content; without quotes.
    """

    media_type: str
    data: bytes
    packed: bytes | None
    tag: str

    def respond(self, accepted: str, known: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers.

        Args:
            accepted: The value of Accept-Encoding.
            known: The value of If-None-Match.
        """
        packed = self.packed if _takes_gzip(accepted) else None
        tag = f'"{self.tag}"' if packed is None else f'"{self.tag}-gzip"'
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Content-Type": self.media_type,
            "ETag": tag,
            "Vary": "Accept-Encoding",
        }
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return 304, b"", headers
        if packed is None:
            return 200, self.data, headers
        return 200, packed, {**headers, "Content-Encoding": "gzip"}


def read_page_files() -> dict[str, PageFile]:
    """Read the files of the page that the package has, by name. Nothing else can be asked for."""
    found = {}
    for entry in files("clipsearch.server").joinpath("page").iterdir():
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            found[entry.name] = _make(media_type, entry.read_bytes())
    return found


def _make(media_type: str, data: bytes) -> PageFile:
    packed = gzip.compress(data, 9, mtime=0)
    digest = hashlib.sha256(data).hexdigest()[:32]
    return PageFile(media_type, data, packed if len(packed) < len(data) else None, digest)


def _takes_gzip(accepted: str) -> bool:
    """Read Accept-Encoding (RFC 9110, section 12.5.3), where a weight of 0 refuses."""
    weights = dict(each.replace(" ", "").lower().partition(";")[::2] for each in accepted.split(","))
    weight = weights.get("gzip", weights.get("*"))
    return weight is not None and not _ZERO.fullmatch(weight)
