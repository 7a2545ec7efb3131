"""How long the vectors of an open_clip model are, from its config alone: without torch, weights or a connection."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from clipsearch.encoders.names import HUB, LOCAL, OPENCLIP

_CONFIGS = "model_configs"
_LOCAL_CONFIG = "open_clip_config.json"
_ARCHITECTURE = re.compile(r"[\w.-]+")
_MAX_BYTES = 1 << 20


def dimension_of(name: str) -> int | None:
    """Return the dimensions of the vectors of an encoder by its canonical name, or None if no config says.

    Of `ARCH/PRETRAINED`, open_clip's own config; of `local-dir:PATH`, the one in the folder. What a hub holds is
    unknown without asking it.
    """
    inner = name.removeprefix(OPENCLIP)
    if inner == name or inner.startswith(HUB):
        return None
    if inner.startswith(LOCAL):
        return _read(Path(inner.removeprefix(LOCAL)) / _LOCAL_CONFIG)
    architecture = inner.rpartition("/")[0]
    package = find_spec("open_clip")  # without importing it, which takes seconds
    if package is None or not package.submodule_search_locations or not _ARCHITECTURE.fullmatch(architecture):
        return None
    return _read(Path(package.submodule_search_locations[0]) / _CONFIGS / f"{architecture}.json")


def _read(path: Path) -> int | None:
    """Return `embed_dim` of a config; None if it cannot be read, as a damaged one cannot be loaded either."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            config = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    model = config.get("model_cfg", config) if isinstance(config, dict) else None
    found = model.get("embed_dim") if isinstance(model, dict) else None
    return found if type(found) is int and found > 0 else None
