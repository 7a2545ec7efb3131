"""Turn a model that is ONNX already into a folder as clipsearch prepares them, without torch.

The graphs get the inputs and outputs of clipsearch's own: pixels of 8 bits in, 64-bit ids in, unit rows out. What was
read is tried before it is kept.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import export_folder, onnx_wrapping
from clipsearch.encoders.base import check_unit_rows
from clipsearch.encoders.onnx_files import (
    CONFIG,
    GRAPH,
    PREPROCESSING,
    TEXTUAL,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VISUAL,
    OnnxFolder,
)
from clipsearch.encoders.onnx_session import open_session
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.encoders.tokenizer import TextRules, TextTokenizer, tokenizer_errors
from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS, surroundings, tokenizer_identity
from clipsearch.errors import EncoderError, EncoderUnavailableError

if TYPE_CHECKING:
    from onnx import ModelProto
    from tokenizers import Tokenizer

log = logging.getLogger("clipsearch")

_MAX_SIDE = 4096
_MAX_LENGTH = 4096
_SAME = 0.9999
"""Cosine that a row must keep whatever else is in its batch."""


def prepare(folder: OnnxFolder, name: str, root: Path, *, threads: int) -> Path:
    """Prepare a model and put the folder in place at once, whole or not at all.

    name: canonical, to be recorded. root: the folder that holds prepared models. threads: for the trial.
    Returns the folder, `root/SLUG.FINGERPRINT`. Raises OSError, EncoderUnavailableError for one that cannot be used.
    """
    started = time.monotonic()
    log.info("Preparing %s; this happens once.", name)
    source = export_folder.local_source(name)
    picture = read_transform(folder)
    visual, visual_digest = folder.graph(VISUAL)
    with export_folder.new_folder(root) as work:
        with _refusing(folder, VISUAL):
            dim = _write_image(visual, picture, work / export_folder.IMAGE_GRAPH, threads)
        del visual  # as large as its weights
        textual, textual_digest = folder.graph(TEXTUAL)
        with _refusing(folder, TEXTUAL):
            tokenizer, rules = read_tokenizer(folder, onnx_wrapping.text_length(textual))
            (work / export_folder.TOKENIZER).write_text(tokenizer, encoding="utf-8")
            rows = _write_text(textual, tokenizer, rules, work / export_folder.TEXT_GRAPH, threads)
            if rows.shape[1] != dim:
                raise ValueError(f"its vectors have {rows.shape[1]} dimensions, but those of pictures {dim}")
        del textual
        digest = hashlib.sha256(f"{visual_digest} {textual_digest} {rules.context_length} ".encode())
        digest.update(json.dumps(picture.as_dict(), sort_keys=True).encode() + tokenizer_identity(tokenizer, rules))
        fingerprint = digest.hexdigest()
        files = export_folder.describe_files(work)
        meta = export_folder.ExportMeta(name, fingerprint, dim, picture, rules, source, files)
        (work / export_folder.META).write_text(meta.dump(), encoding="utf-8")
        prepared = export_folder.publish(work, root / f"{export_folder.slug(name)}.{fingerprint[:16]}")
    log.info("Prepared %s in %.0f s.", name, time.monotonic() - started)
    return prepared


def read_transform(folder: OnnxFolder) -> PictureTransform:
    """Read how pictures become inputs. Raises EncoderUnavailableError for what cannot be right."""
    usual = {"resize_mode": "shortest", "interpolation": "bicubic", "mean": _CLIP_MEAN, "std": _CLIP_STD}
    try:
        transform = PictureTransform.from_open_clip(usual | folder.json(PREPROCESSING))
        sides, scales = (transform.height, transform.width), (*transform.mean, *transform.std)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise folder.refused(PREPROCESSING, f"it does not say how pictures are prepared ({error})") from error
    if not all(0 < side <= _MAX_SIDE for side in sides) or not 0 <= transform.fill_color <= 255:
        raise folder.refused(PREPROCESSING, f"a size of {sides} pixels is out of range")
    if not np.isfinite(scales).all() or min(transform.std) <= 0:
        raise folder.refused(PREPROCESSING, f"a mean or a standard deviation is out of range: {scales}")
    return transform


# As open_clip has them where a config says nothing.
_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def read_tokenizer(folder: OnnxFolder, length: int | None) -> tuple[str, TextRules]:
    """Read the tokenizer and the rules around it, as open_clip has them for such a model.

    length: of the rows that the graph takes, where it takes no other. Raises EncoderUnavailableError.
    """
    from tokenizers import Tokenizer

    config, described = folder.json(TOKENIZER_CONFIG), folder.json(CONFIG).get("text_cfg")
    text_config: Mapping[str, Any] = described if isinstance(described, dict) else {}
    options = text_config.get("tokenizer_kwargs")
    options = options if isinstance(options, dict) else {}
    backend = _read_backend(folder)
    # open_clip's own tokenizer lowers letters; the fast ones of transformers do what they were made for.
    is_clip = str(config.get("tokenizer_class")).startswith("CLIPTokenizer")
    clean = options.get("clean", "lower" if is_clip else "whitespace")
    if clean not in ("lower", "whitespace", "canonicalize"):
        raise folder.refused(CONFIG, f"it cleans texts in an unknown way, {str(clean)[:40]!r}")
    length = length or text_config.get("context_length", 77)
    with _refusing_tokenizer(folder):
        prefix, suffix = surroundings(backend)
    if not isinstance(length, int) or not len(prefix) + len(suffix) < length <= _MAX_LENGTH:
        raise folder.refused(CONFIG, f"texts of {str(length)[:40]} tokens are out of range")
    zeroed = _token(folder, backend, config, "sep_token") if options.get("strip_sep_token") else None
    pad = _token(folder, backend, config, "pad_token")
    rules = TextRules(clean, length, prefix, suffix, pad or 0, zeroed)
    with _refusing_tokenizer(folder):
        text = backend.to_str()
        TextTokenizer(Tokenizer.from_str(text), rules).rows(DIFFICULT_TEXTS)  # as it is read from now on
    return text, rules


def _read_backend(folder: OnnxFolder) -> Tokenizer:
    from tokenizers import Tokenizer

    text = folder.tokenizer()
    try:
        json.loads(text, object_pairs_hook=_check_charsmaps)
    except (ValueError, RecursionError) as error:
        raise folder.refused(TOKENIZER, f"`tokenizers` cannot read it ({str(error)[:200]})") from error
    with _refusing_tokenizer(folder):
        backend = Tokenizer.from_str(text)
        backend.no_truncation()
        backend.no_padding()
    return backend


def _check_charsmaps(pairs: list[tuple[str, Any]]) -> None:
    """Check the tables of normalizers in a JSON object. Raises ValueError for one that is shorter than it says.

    `tokenizers` allocates what the first four bytes say, before it looks at the rest.
    """
    for key, value in pairs:
        if key == "precompiled_charsmap" and value is not None:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
            if int.from_bytes(data[:4], "little") > len(data) - 4:
                raise ValueError("a table of its normalizer is shorter than it says")


@contextlib.contextmanager
def _refusing_tokenizer(folder: OnnxFolder) -> Iterator[None]:
    try:
        with tokenizer_errors("`tokenizers` cannot use it"):
            yield
    except EncoderUnavailableError:
        raise
    except EncoderError as error:
        raise folder.refused(TOKENIZER, str(error).rstrip(".")) from error


def _token(folder: OnnxFolder, backend: Tokenizer, config: Mapping[str, Any], key: str) -> int | None:
    word = config.get(key)
    word = word.get("content") if isinstance(word, dict) else word
    if word is None:
        return None
    found = backend.token_to_id(word) if isinstance(word, str) else None
    if found is None:
        raise folder.refused(TOKENIZER_CONFIG, f"its {key}, {str(word)[:40]!r}, is not in {TOKENIZER}")
    return int(found)


def _write_image(model: ModelProto, picture: PictureTransform, path: Path, threads: int) -> int:
    pixels = np.random.default_rng(0).integers(0, 256, (3, picture.height, picture.width, 3), dtype=np.uint8)
    return int(_write(onnx_wrapping.wrap_image(model, picture), path, pixels, threads).shape[1])


def _write_text(model: ModelProto, tokenizer: str, rules: TextRules, path: Path, threads: int) -> NDArray[np.float32]:
    from tokenizers import Tokenizer

    ids = TextTokenizer(Tokenizer.from_str(tokenizer), rules).rows(DIFFICULT_TEXTS)
    return _write(onnx_wrapping.wrap_text(model, rules.pad_id), path, ids, threads)


def _write(model: ModelProto, path: Path, trial: NDArray[Any], threads: int) -> NDArray[np.float32]:
    """Write a graph that takes any number of rows, or one at a time where it cannot; return the rows of the trial."""
    onnx_wrapping.save(model, path)
    alone = _run(path, trial, threads, at_once=1)
    try:
        together = _run(path, trial, threads, at_once=len(trial))
        is_free = together.shape == alone.shape and float((together * alone).sum(axis=1).min()) >= _SAME
    except EncoderError:
        is_free = False
    if not is_free:
        onnx_wrapping.fix_batch(path)
    return alone


@contextlib.contextmanager
def _refusing(folder: OnnxFolder, side: str) -> Iterator[None]:
    """Say which graph it was that could not be used."""
    try:
        yield
    except EncoderUnavailableError:
        raise
    except (EncoderError, ValueError) as error:
        raise folder.refused(f"{side}/{GRAPH}", str(error).rstrip(".")) from error


def _run(path: Path, values: NDArray[Any], threads: int, *, at_once: int) -> NDArray[np.float32]:
    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    try:
        rows = [session.run(None, {name: values[at : at + at_once]})[0] for at in range(0, len(values), at_once)]
    except Exception as error:
        raise EncoderError(f"it does not run: {str(error).splitlines()[0][:300] if str(error) else error!r}") from error
    if any(part.ndim != 2 or len(part) != len(values[:at_once]) for part in rows) or not rows[0].shape[1]:
        raise EncoderError(f"it gives an array of shape {rows[0].shape} for {at_once}, not one row for each")
    joined = np.concatenate(rows)
    check_unit_rows(joined)
    return joined
