"""Turn a model that open_clip loaded into a folder that runs without torch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import export_folder
from clipsearch.encoders.onnx_session import open_session
from clipsearch.encoders.openclip import Reference, brief, quiet
from clipsearch.encoders.tokenizer import (
    DIFFICULT_TEXTS,
    TextRules,
    TextTokenizer,
    convert_tokenizer,
    tokenizer_identity,
)
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("clipsearch")

_MIN_COSINE = 0.9999


def export(reference: Reference, name: str, root: Path, *, threads: int) -> Path:
    """Export a model and put the folder in place at once, whole or not at all.

    name: canonical, to be recorded. root: the folder that holds exports. threads: for the check against torch.
    Returns the folder, `root/SLUG.FINGERPRINT`.
    Raises EncoderUnavailableError when the tokenizer cannot be reproduced, EncoderError when a graph cannot be
    made or differs from torch.
    """
    from clipsearch.encoders import towers

    started = time.monotonic()
    log.info("Preparing %s for use without torch; this happens once.", name)
    source = export_folder.local_source(reference.name)
    tokenizer, rules = convert_tokenizer(
        reference.tokenizer, reference.context_length, bucketed=towers.is_causal(reference.model)
    )
    fingerprint = compute_fingerprint(reference, tokenizer, rules)
    with export_folder.new_folder(root) as work:
        (work / export_folder.TOKENIZER).write_text(tokenizer, encoding="utf-8")
        dim = _export_towers(reference, rules, work, threads)
        files = export_folder.describe_files(work)
        meta = export_folder.ExportMeta(
            name, fingerprint, dim, reference.picture, rules, source, files, _logit_scale(reference.model)
        )
        (work / export_folder.META).write_text(meta.dump(), encoding="utf-8")
        folder = export_folder.publish(work, root / f"{export_folder.slug(name)}.{fingerprint[:16]}")
    log.info("Prepared %s in %.0f s.", name, time.monotonic() - started)
    return folder


def _logit_scale(model: Any) -> float:  # noqa: ANN401
    learnt = getattr(model, "logit_scale", None)
    return export_folder.USUAL_LOGIT_SCALE if learnt is None else float(learnt.detach().exp())


def _export_towers(reference: Reference, rules: TextRules, work: Path, threads: int) -> int:
    """Write both graphs, compare each with torch, and return the length of a vector."""
    dim = _export_image_tower(reference, work / export_folder.IMAGE_GRAPH, threads)
    tokenizer = TextTokenizer.from_file(work / export_folder.TOKENIZER, rules)
    _export_text_tower(reference, tokenizer, work / export_folder.TEXT_GRAPH, threads)
    return dim


def _export_image_tower(reference: Reference, path: Path, threads: int) -> int:
    import torch

    from clipsearch.encoders import towers

    picture = reference.picture
    pixels = np.random.default_rng(0).integers(0, 256, (3, picture.height, picture.width, 3), dtype=np.uint8)
    _write_graph(towers.ImageTower(reference.model, picture).eval(), pixels[:2], {0: torch.export.Dim.DYNAMIC}, path)
    with torch.inference_mode():
        expected = reference.model.encode_image(torch.from_numpy(picture.scale(pixels)))
    _compare(path, [pixels, pixels[:1]], expected.numpy(), threads)
    return int(expected.shape[-1])


def _export_text_tower(reference: Reference, tokenizer: TextTokenizer, path: Path, threads: int) -> None:
    import torch

    from clipsearch.encoders import towers

    rules = tokenizer.rules
    texts = [DIFFICULT_TEXTS[4], DIFFICULT_TEXTS[6], DIFFICULT_TEXTS[-3]]
    rows = tokenizer.rows(texts)
    axes = {0: torch.export.Dim.DYNAMIC} | ({1: torch.export.Dim.DYNAMIC} if rules.bucketed else {})
    _write_graph(towers.text_tower(reference.model), rows[:2], axes, path)
    with torch.inference_mode():
        expected = reference.model.encode_text(reference.tokenizer(texts, context_length=rules.context_length))
    _compare(path, [rows, tokenizer.rows(texts[:1])], expected.numpy(), threads)


def _write_graph(module: torch.nn.Module, example: NDArray[Any], axes: Mapping[int, Any], path: Path) -> None:
    import torch

    silence = io.StringIO()
    try:
        with quiet(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), torch.no_grad():
            program = torch.onnx.export(
                module,
                (torch.from_numpy(example),),
                dynamo=True,
                input_names=["input"],
                output_names=["vectors"],
                dynamic_shapes=(dict(axes),),
                verbose=False,
            )
            # Weights in a file of their own are mapped into memory, not read: a cold query touches few of them.
            assert program is not None
            program.save(str(path), external_data=True)
    except Exception as error:
        raise EncoderError(
            f"The model cannot be turned into an ONNX graph: {brief(error)}. Choose another model."
        ) from error


def _compare(path: Path, inputs: list[NDArray[Any]], expected: NDArray[np.float32], threads: int) -> None:
    session = open_session(path, threads)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    for values in inputs:
        try:
            rows = session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:
            raise EncoderError(
                f"The exported graph {path.name} does not run: {brief(error)}. Choose another model."
            ) from error
        cosine = float((rows * expected[: len(rows)]).sum(axis=1).min())
        if not cosine >= _MIN_COSINE:
            raise EncoderError(
                f"The exported graph {path.name} differs from the model: the cosine is {cosine:.6f}, "
                f"but must be at least {_MIN_COSINE}. Choose another model."
            )


def compute_fingerprint(reference: Reference, tokenizer: str, rules: TextRules) -> str:
    """Return the hexadecimal SHA-256 of a model: weights, preprocessing, tokenizer and context length.

    tokenizer: JSON of the converted tokenizer, and the rules around it.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(reference.model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    digest.update(json.dumps(reference.picture.as_dict(), sort_keys=True).encode())
    digest.update(tokenizer_identity(tokenizer, rules))
    digest.update(str(rules.context_length).encode())
    return digest.hexdigest()
