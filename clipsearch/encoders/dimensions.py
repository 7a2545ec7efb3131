"""What the config of an open_clip model says of it: without torch, weights or a connection."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clipsearch.encoders.names import HUB, LOCAL, OPENCLIP

_CONFIGS = "model_configs"
_LOCAL_CONFIG = "open_clip_config.json"
_ARCHITECTURE = re.compile(r"[\w.-]+")
_MAX_BYTES = 1 << 20
_MOST = 1 << 20
_TIMM_TOWERS = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24), "so400m": (1152, 27)}
"""Width and layers of timm's vision transformers, by the size in their names."""


def dimension_of(name: str) -> int | None:
    """Return the dimensions of the vectors of an encoder by its canonical name, or None if no config says.

    Of `ARCH/PRETRAINED`, open_clip's own config; of `local-dir:PATH`, the one in the folder. What a hub holds is
    unknown without asking it.
    """
    found = _config(name).get("embed_dim")
    return found if type(found) is int and found > 0 else None


def operations_of(name: str) -> float | None:
    """Return the operations of a picture in the tower of an encoder, a multiplication and an addition being two.

    Only of vision transformers whose config says what they are like; None for any other. Dosovitskiy et al., An image
    is worth 16x16 words, ICLR 2021: each layer multiplies a token with 4 + 2 * ratio matrices of width squared, and
    with all other tokens twice.
    """
    tower = _config(name).get("vision_cfg")
    if not isinstance(tower, dict):
        return None
    width, layers, patch = (tower.get(key) for key in ("width", "layers", "patch_size"))
    timm = re.fullmatch(r"vit_(\w+?)_patch(\d+)_.*", str(tower.get("timm_model_name")))
    if timm and timm[1] in _TIMM_TOWERS:
        (width, layers), patch = _TIMM_TOWERS[timm[1]], int(timm[2])
    numbers = (width, layers, patch, tower.get("image_size"), tower.get("mlp_ratio", 4.0))
    known = [float(each) for each in numbers if isinstance(each, int | float) and 0 < each < _MOST]
    if len(known) < len(numbers):
        return None
    width, layers, patch, side, ratio = known
    tokens = (side // patch) ** 2 + 1
    return layers * (2 * (4 + 2 * ratio) * tokens * width**2 + 4 * tokens**2 * width)


def _config(name: str) -> dict[str, Any]:
    """Return the config of an encoder by its canonical name; empty if this machine has no config of it."""
    inner = name.removeprefix(OPENCLIP)
    if inner == name or inner.startswith(HUB):
        return {}
    if inner.startswith(LOCAL):
        return _read(Path(inner.removeprefix(LOCAL)) / _LOCAL_CONFIG)
    architecture = inner.rpartition("/")[0]
    package = find_spec("open_clip")  # without importing it, which takes seconds
    if package is None or not package.submodule_search_locations or not _ARCHITECTURE.fullmatch(architecture):
        return {}
    return _read(Path(package.submodule_search_locations[0]) / _CONFIGS / f"{architecture}.json")


def _read(path: Path) -> dict[str, Any]:
    """Return the config of a model; empty if it cannot be read, as a damaged one cannot be loaded either."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            config = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    model = config.get("model_cfg", config) if isinstance(config, dict) else None
    return model if isinstance(model, dict) else {}
