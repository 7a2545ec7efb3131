"""Settings: flags over environment (CLIPSEARCH_*) over the config file over defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.locations import APP, TRUE, config_file, is_hub_offline

_FALSE = {"0", "false", "no", "off"}
_AUTOMATIC = {"threads", "batch_size", "ray_workers"}
_YES_NO_AUTO = {"isolate"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, at their defaults unless given.

    Attributes:
        library: Folder of the library; None finds it.
        model: Encoder of a new library. A model of a folder or a hub that is named here is trusted.
        offline: Never ask a model hub.
        max_pixels: The largest picture that is decoded, in pixels of three bytes; deeper ones count more.
        max_picture_bytes: The largest picture file that is read.
        max_text_bytes: The largest text file that is read.
        max_film_bytes: The largest film that is read.
        film_seconds: The most seconds between two frames of a film that are indexed, where they differ.
        film_frames: The most frames of a film.
        film_decode_seconds: The longest time that one film may take to decode.
        batch_size: Pictures or passages in a commit; 0 (`auto`) for what suits the encoder.
        threads: Threads to use; 0 (`auto`) for all cores.
        device: Where `index` encodes: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Of that: `auto`, `fp32`, `bf16` or `fp16`.
        query_cache: Keep the vectors of texts that were searched for.
        daemon: Let `clipsearch daemon` answer if it runs.
        preview: How the terminal takes pictures: `auto`, `kitty`, `iterm2`, `sixel` or `blocks`.
        allow_private_urls: Fetch pictures from addresses that are not public too.
        isolate: Decode pictures in processes of their own; None (`auto`) on many cores and for many pictures.
        decode_seconds: The longest time that one picture may take there.
        decode_memory: The most bytes that one picture may take there.
        ray_workers: Actors on a Ray cluster at most; 0 (`auto`) for what it has room for.
        ray_cpus: Processors of each of them.
        ray_gpus: GPUs of each of them, such as 0.5; 0 on a cluster without any, or with `device` `cpu`.
    """

    library: str | None = None
    model: str = "auto"
    offline: bool = False
    max_pixels: int = 100_000_000
    max_picture_bytes: int = 1024**3
    max_text_bytes: int = 16 * 1024**2
    max_film_bytes: int = 256 * 1024**3
    film_seconds: int = 10
    film_frames: int = 300
    film_decode_seconds: int = 3600
    batch_size: int = 0
    threads: int = 0
    device: str = "auto"
    precision: str = "auto"
    query_cache: bool = True
    daemon: bool = True
    preview: str = "auto"
    allow_private_urls: bool = False
    isolate: bool | None = None
    decode_seconds: int = 60
    decode_memory: int = 2 * 1024**3
    ray_workers: int = 0
    ray_cpus: int = 1
    ray_gpus: float = 1.0

    @property
    def cores(self) -> int:
        """Threads to use: `threads`, but no more than the cores of this process; all of those if it is 0."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.threads, cores) if self.threads else cores


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings: flags over environment (CLIPSEARCH_*) over the config file over defaults.

    Args:
        overrides: Values given as flags, by name; None counts as not given.

    Returns:
        The settings.

    Raises:
        InvalidInputError: A key is unknown, or a value has the wrong type; the message names where it is.
    """
    settings = Settings()
    path = config_file()
    settings = _merge(settings, _read_file(path), str(path))
    environment = {
        field.name: os.environ[name]
        for field in fields(Settings)
        if os.environ.get(name := f"{APP.upper()}_{field.name.upper()}")
    }
    if is_hub_offline():
        environment.setdefault("offline", "1")
    settings = _merge(settings, environment, "the environment")
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return _merge(settings, given, "the command line")


def _read_file(path: Path) -> dict[str, Any]:
    """Return the settings of a config file; none if there is no file."""
    try:
        if not path.is_file():
            return {}
    except OSError as error:  # of a folder that this user may not read
        raise _unreadable(path, error) from error
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"The config file {path} cannot be read: {error}. Correct it, delete it, or name another by CLIPSEARCH_CONFIG."
    )


def _merge(settings: Settings, values: Mapping[str, object], where: str) -> Settings:
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidInputError(
            f"There is no setting {unknown[0]!r}, named in {where}. Use one of: {', '.join(sorted(known))}."
        )
    return replace(settings, **{key: _convert(key, value, where) for key, value in values.items()})  # type: ignore[arg-type]


def _convert(key: str, value: object, where: str) -> object:
    default = getattr(Settings(), key)
    example = "/data/library" if default is None else default
    remedy = "Use auto, true or false" if key in _YES_NO_AUTO else f"An example is {example!r}"
    problem = InvalidInputError(f"Setting {key!r} in {where} cannot be {value!r}. {remedy}.")
    if isinstance(default, bool) or key in _YES_NO_AUTO:
        word = str(value).lower()
        if word == "auto" and key in _YES_NO_AUTO:
            return None
        if word not in TRUE | _FALSE:
            raise problem
        return word in TRUE
    if isinstance(default, int | float):
        number = 0 if value == "auto" and key in _AUTOMATIC else _number(type(default), value)
        if number is None or number < (0 if key in _AUTOMATIC or isinstance(default, float) else 1):
            raise problem
        return number
    if not isinstance(value, str) or not value:
        raise problem
    return value


def _number(kind: type[int] | type[float], value: object) -> int | float | None:
    """Return what is written as a number; None for anything else."""
    try:
        number = kind(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
