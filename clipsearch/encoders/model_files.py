"""What the files of a model may ask for: numbers and names, never Python of their own.

A config of open_clip or of transformers can name a module beside it, or in a repository, that is imported while the
model is loaded. Such a config is refused with the key that asks for it, and transformers is kept from importing
whatever was not seen, as a repository that a config leads to.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from clipsearch.errors import EncoderUnavailableError
from clipsearch.paths import printable

CONFIG = "open_clip_config.json"
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines", "attn_implementation", "_attn_implementation")
"""Keys of transformers under which a config names code: its own, or that of a kernel on the hub."""

_BUILT_IN = ("eager", "sdpa")
"""Attention that is part of torch."""

_TOKENIZER_KEYS = ("clean", "strip_sep_token", "language")
_VOCABULARIES = ("tokenizer.json", "vocab.json")
_MAX_JSON = 16 << 20

_switch = threading.RLock()


def check_folder(folder: Path) -> None:
    """Check the configs in the folder of a model. Raises EncoderUnavailableError for one that names code, OSError."""
    for path in sorted(folder.glob("*.json")):
        if path.name in _VOCABULARIES or not path.is_file():
            continue
        config = _read(path)
        for key in _CODE_KEYS:
            for value in _find(config, key):
                if value and value not in _BUILT_IN:
                    raise _refused(path, key, value)
    check_config(_read(folder / CONFIG), folder / CONFIG, folder)


def check_config(config: Any, path: Path, folder: Path | None = None) -> None:  # noqa: ANN401
    """Check open_clip's config of a model. path: where it lies. folder: that of a local model.

    Raises EncoderUnavailableError for one that names code, or files outside the model.
    """
    model = _table(config, "model_cfg") or (config if isinstance(config, Mapping) else {})
    text, vision = _table(model, "text_cfg"), _table(model, "vision_cfg")
    for key, value in _table(text, "tokenizer_kwargs").items():
        if key not in _TOKENIZER_KEYS:
            raise _refused(path, f"tokenizer_kwargs.{key}", value)
    tower = vision.get("timm_model_name")
    if isinstance(tower, str) and ":" in tower:  # timm takes a folder or a repository by such a name
        raise _refused(path, "timm_model_name", tower)
    elsewhere = text.get("hf_model_name")
    if folder is not None and isinstance(elsewhere, str) and os.path.isdir(elsewhere):
        if os.path.realpath(elsewhere) != os.path.realpath(folder):
            raise _refused(path, "hf_model_name", elsewhere)


@contextlib.contextmanager
def without_code() -> Iterator[None]:
    """Keep transformers from importing Python that comes with a model, and from asking on the terminal whether to.

    A model that needs it raises EncoderUnavailableError, or what transformers raises in its place.
    """
    from transformers import dynamic_module_utils as dynamic

    def refuse(class_name: str, module_path: object, **_options: object) -> NoReturn:
        raise EncoderUnavailableError(remote_code(f"the class {class_name} of {module_path}"))

    with _switch:
        before = dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE
        dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = refuse, 0
        try:
            yield
        finally:
            dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE = before


def remote_code(what: str) -> str:
    """Say that a model asks for code. what: which."""
    return f"The model asks to run its own Python code ({what}), which clipsearch never does. Choose another model."


def _read(path: Path) -> Any:  # noqa: ANN401
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_JSON + 1)
        if len(data) > _MAX_JSON:
            raise ValueError(f"it is longer than {_MAX_JSON:,} bytes")
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EncoderUnavailableError(
            f"The config {printable(str(path))} of the model cannot be read: {error}. Copy it again."
        ) from error


def _find(config: Any, key: str) -> Iterator[Any]:  # noqa: ANN401
    """Yield the values of a key, however deep they lie."""
    waiting = [config]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            if key in found:
                yield found[key]
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)


def _table(config: Any, key: str) -> Mapping[str, Any]:  # noqa: ANN401
    value = config.get(key) if isinstance(config, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _refused(path: Path, key: str, value: object) -> EncoderUnavailableError:
    return EncoderUnavailableError(
        f"{printable(str(path))} has {key} = {printable(repr(value)[:80])}. Code that comes with a model never "
        "runs, and files from elsewhere are not loaded. Remove that key if the model works without it, or choose "
        "another model."
    )
