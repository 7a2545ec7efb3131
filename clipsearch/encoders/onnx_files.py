"""A folder of a model that is ONNX already, in the layout of Immich's model repositories, read with suspicion.

    config.json                    open_clip's config of the model; `text_cfg` counts
    visual/model.onnx              float (n, 3, height, width), normalised, or uint8 (n, height, width, 3), to (n, dim)
    visual/preprocess_cfg.json     open_clip's `preprocess_cfg`
    textual/model.onnx             ids (n, length), int32 or int64, and perhaps `attention_mask`, to (n, dim)
    textual/tokenizer.json         as `tokenizers` reads it
    textual/tokenizer_config.json  `pad_token` and `tokenizer_class` count

Weights may lie in files of their own beside a graph. Nothing outside the folder is read, and no file that is longer
than what is allowed for it here.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.errors import EncoderUnavailableError
from clipsearch.paths import printable

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

CONFIG = "config.json"
VISUAL, TEXTUAL = "visual", "textual"
GRAPH = "model.onnx"
PREPROCESSING = f"{VISUAL}/preprocess_cfg.json"
TOKENIZER = f"{TEXTUAL}/tokenizer.json"
TOKENIZER_CONFIG = f"{TEXTUAL}/tokenizer_config.json"
NEEDED = (CONFIG, f"{VISUAL}/{GRAPH}", PREPROCESSING, f"{TEXTUAL}/{GRAPH}", TOKENIZER, TOKENIZER_CONFIG)

_MAX_JSON = 1 << 20
_MAX_TOKENIZER = 128 << 20
_MAX_GRAPH = (1 << 31) - 1  # of any protobuf message
_MAX_WEIGHTS = 16 << 30
_DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Operators that ONNX Runtime brings along."""

_ENDLESS = ("Loop", "Scan", "SequenceMap")
"""Operators that may run for as long as a file says."""

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """Where the files are. root: nothing outside it is read, also through links."""

    path: Path
    root: Path

    def json(self, name: str) -> dict[str, Any]:
        """Read a config. Raises EncoderUnavailableError where it is not a JSON object of bounded size."""
        data = self.read(name, _MAX_JSON)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.refused(name, f"it is not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise self.refused(name, "it is not a JSON object")
        return value

    def tokenizer(self) -> str:
        """Read the JSON of the tokenizer. Raises EncoderUnavailableError."""
        try:
            return self.read(TOKENIZER, _MAX_TOKENIZER).decode()
        except UnicodeDecodeError as error:
            raise self.refused(TOKENIZER, "it is not UTF-8") from error

    def graph(self, side: str) -> tuple[ModelProto, str]:
        """Read a graph with all its weights, and return it with the hexadecimal SHA-256 of what was read.

        side: VISUAL or TEXTUAL. Raises EncoderUnavailableError.
        """
        from onnx import TensorProto

        model, data = self._parse(side)
        digest = hashlib.sha256(data)
        room = _MAX_WEIGHTS
        for tensor in _external_tensors(model):
            weights = self._external(tensor, side, room)
            room -= len(weights)
            digest.update(weights)
            tensor.raw_data = weights
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        return model, digest.hexdigest()

    def weights(self, side: str) -> list[str]:
        """Return the names of the files in which a graph has weights. Raises EncoderUnavailableError."""
        model, _ = self._parse(side)
        return sorted({f"{side}/{self._place(tensor, side)[0]}" for tensor in _external_tensors(model)})

    def _parse(self, side: str) -> tuple[ModelProto, bytes]:
        import onnx

        name = f"{side}/{GRAPH}"
        data = self.read(name, _MAX_GRAPH)
        try:
            model = onnx.load_model_from_string(data)
            _check(model)
        except ValueError as error:
            raise self.refused(name, str(error)) from error
        except Exception as error:  # protobuf has its own error, which it raises from more than one module
            raise self.refused(name, f"it is not an ONNX model ({type(error).__name__})") from error
        return model, data

    def read(self, name: str, most: int) -> bytes:
        """Read a regular file of at most `most` bytes. Raises EncoderUnavailableError."""
        with self._open(name) as file:
            data: bytes = file.read(most + 1)
        if len(data) > most:
            raise self.refused(name, f"it is longer than {most:,} bytes")
        return data

    def refused(self, name: str, reason: str) -> EncoderUnavailableError:
        """Build the error for a file that cannot be used."""
        return EncoderUnavailableError(
            f"{printable(str(self.path / name))} cannot be used: {reason}. Copy the model again, or choose another one."
        )

    def _open(self, name: str) -> Any:  # noqa: ANN401
        real = os.path.realpath(self.path / name)
        if os.path.commonpath((real, os.path.realpath(self.root))) != os.path.realpath(self.root):
            raise self.refused(name, "it leads out of the folder of the model")
        try:
            descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            raise EncoderUnavailableError(
                f"The model folder {printable(str(self.path))} has no {printable(name)}. A model that is ONNX already "
                f"needs {', '.join(NEEDED)}, as Immich's repositories have them."
            ) from error
        except OSError as error:
            raise self.refused(name, str(error.strerror)) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self.refused(name, "it is not a regular file")
        return open(descriptor, "rb")

    def _external(self, tensor: TensorProto, side: str, room: int) -> bytes:
        name, offset, length = self._place(tensor, side)
        with self._open(f"{side}/{name}") as file:
            size = os.fstat(file.fileno()).st_size
            length = size - offset if length < 0 else length
            if offset < 0 or length < 0 or offset + length > size or length > room:
                reason = f"it names {length:,} bytes at {offset:,} of {printable(name)}, which has {size:,}"
                raise self.refused(f"{side}/{GRAPH}", reason)
            file.seek(offset)
            return bytes(file.read(length))

    def _place(self, tensor: TensorProto, side: str) -> tuple[str, int, int]:
        """Return file, offset and length of the weights of a tensor; a length of -1 is up to the end."""
        given = {entry.key: entry.value for entry in tensor.external_data}
        name = given.get("location", "").removeprefix("./")
        if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
            reason = f"its weights are in {printable(name)!r}, which is not a file beside it"
            raise self.refused(f"{side}/{GRAPH}", reason)
        try:
            return name, int(given.get("offset", "0")), int(given.get("length", "-1"))
        except ValueError as error:
            raise self.refused(f"{side}/{GRAPH}", "it names weights at a place that is no number") from error


def _check(model: ModelProto) -> None:
    """Refuse what a graph of a tower has no need of. Raises ValueError."""
    if len(model.functions) or len(model.training_info):
        raise ValueError("it brings functions of its own")
    nodes = list(_nodes(model.graph))
    if not nodes:
        raise ValueError("it is not an ONNX model")
    for domain in {entry.domain for entry in model.opset_import} | {node.domain for node in nodes}:
        if domain not in _DOMAINS:
            raise ValueError(f"it needs operators of {printable(domain)!r}, which are not part of ONNX Runtime")
    for node in nodes:
        if node.op_type in _ENDLESS:
            raise ValueError(f"it has the operator {node.op_type}, whose time has no bound")


def _nodes(graph: GraphProto, depth: int = 0) -> Iterator[Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    for node in graph.node:
        yield node
        for inner in _inner_graphs(node):
            yield from _nodes(inner, depth + 1)


def _external_tensors(model: ModelProto) -> Iterator[TensorProto]:
    return (tensor for tensor in _tensors(model.graph) if tensor.data_location == 1)  # TensorProto.EXTERNAL


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in _inner_graphs(node):
            yield from _tensors(inner)


def _inner_graphs(node: Any) -> Iterator[GraphProto]:  # noqa: ANN401
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
