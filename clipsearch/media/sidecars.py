"""Metadata that lies beside a picture: XMP sidecars, and the JSON of Google Takeout."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence

from clipsearch.media.decode import read_open
from clipsearch.media.image_metadata import Embedded, gather_captions, gather_keywords
from clipsearch.media.takeout import Takeout, read_takeout
from clipsearch.media.xmp import XmpPacket, read_xmp

MAX_DESCRIBED = 1 << 20
"""Bytes: a sidecar of more is not read."""

_XMP, _JSON = ".xmp", ".json"
_SUPPLEMENT = ".supplemental-metadata"
_TAKEOUT_STEM = 46
"""Characters to which Takeout cuts the name of a JSON file, without its ending."""

_EDITED = re.compile(
    "-(?:edited|effects|smile|mix|edytowane|bearbeitet|bewerkt|編集済み|modificato|modifié|ha editado|editat)"
    r"(?=\.[^.]*$|$)",
    re.IGNORECASE,
)
"""What Google Photos puts behind the name of an edited copy, by the language of its user."""

_NUMBERED = re.compile(r"(.*)(\(\d+\))(\.[^.]*)?", re.DOTALL)


class SidecarNames:
    """Which names of a folder may be sidecars; asked for each picture, so most folders cost nothing."""

    def __init__(self, names: Collection[str]) -> None:
        """Prepare. names: all that is in the folder."""
        self._named = {name.lower(): name for name in names if name[-5:].lower().endswith((_XMP, _JSON))}

    def of(self, name: str) -> list[str]:
        """Return the XMP sidecar and the JSON of a picture, those that there are."""
        if not self._named:
            return []
        stem = os.path.splitext(name)[0]
        xmp = (each + _XMP for each in (name, stem))
        found = [next((self._named[each.lower()] for each in names if each.lower() in self._named), None)
                 for names in (xmp, _takeout_names(name))]  # fmt: skip
        return [each for each in found if each is not None]


def _takeout_names(name: str) -> Iterator[str]:
    """Yield what the JSON of a picture may be called: `a(1).jpg` has `a.jpg(1).json`, and long names are cut.

    An edited copy has that of its original.
    """
    numbered = _NUMBERED.fullmatch(name)
    named = [(name, ""), *([(numbered[1] + (numbered[3] or ""), numbered[2])] if numbered else [])]
    originals = [(_EDITED.sub("", plain), number) for plain, number in named if _EDITED.search(plain)]
    for plain, number in named + originals:
        full = plain + _SUPPLEMENT
        for cut in (len(plain), len(full), _TAKEOUT_STEM, *range(len(plain) + 1, len(full))):
            yield full[:cut] + number + _JSON


def read_sidecars(paths: Sequence[str], inside: Embedded, report: Callable[[str], None]) -> Embedded:
    """Return what a picture says of itself together with what lies beside it.

    paths: absolute, of what `SidecarNames` found. An XMP sidecar counts before the picture, which counts before the
    JSON of Takeout. report: called with the path of an XMP sidecar that is damaged; what stands before that counts.
    Raises OSError and MediaError for what cannot be read now.
    """
    xmp, takeout = XmpPacket(), Takeout()
    for path in paths:
        data = _read(path)
        if path.lower().endswith(_XMP):
            xmp = read_xmp(data)
            if not xmp.is_whole:
                report(path)
        else:
            takeout = read_takeout(data)
    keywords = gather_keywords([*xmp.keywords, *xmp.people, *inside.keywords, *takeout.people])
    own = xmp.facts.original or xmp.facts.digitized
    return Embedded(
        gather_captions([*xmp.captions, *inside.captions, *takeout.captions], keywords),
        keywords,
        own or inside.taken_at or takeout.facts.taken_at,
        xmp.facts.place or inside.place or takeout.facts.place,
        rating=inside.rating if xmp.facts.rating is None else xmp.facts.rating,
        label=xmp.facts.label or inside.label,
    )


def _read(path: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return read_open(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0)), MAX_DESCRIBED)[0]
