"""Where things are: the user's folders, the library that is meant, and whether the hub is out of reach."""

from __future__ import annotations

import os
from pathlib import Path

APP = "clipsearch"
LOCAL_LIBRARY = ".clipsearch"

TRUE = frozenset({"1", "true", "yes", "on"})
"""What a variable says for yes, in any case."""


def cache_dir() -> Path:
    """Return the folder for derived files that can be made again (CLIPSEARCH_CACHE, else the user's cache)."""
    from platformdirs import user_cache_path

    named = os.environ.get("CLIPSEARCH_CACHE")
    return Path(named) if named else user_cache_path(APP, appauthor=False)


def library_path(named: str | None, *, cwd: Path | None = None) -> Path:
    """Return the folder of the library to use.

    named: from a flag or CLIPSEARCH_LIBRARY; it wins. Else the nearest `.clipsearch/` in cwd or above it, else
    the user's data folder.
    """
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    start = Path(os.path.abspath(cwd or Path.cwd()))
    for folder in (start, *start.parents):
        if (folder / LOCAL_LIBRARY).is_dir():
            return folder / LOCAL_LIBRARY
    from platformdirs import user_data_path

    return user_data_path(APP, appauthor=False) / "library"


def config_file() -> Path:
    """Return the path of the config file (CLIPSEARCH_CONFIG, else in the user's config folder)."""
    from platformdirs import user_config_path

    named = os.environ.get("CLIPSEARCH_CONFIG")
    return Path(named) if named else user_config_path(APP, appauthor=False) / "config.toml"


def state_dir() -> Path:
    """Return the folder for what this user has decided here and for this user's secrets; never part of a library."""
    from platformdirs import user_state_path

    return user_state_path(APP, appauthor=False)


def is_hub_offline() -> bool:
    """Tell whether HF_HUB_OFFLINE says that no model hub may be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in TRUE
