"""Towers in 8 bits, for processors.

Weights are rounded once, one scale for each output; activations are rounded as they come, by the range of the tensor
they stand in. So a run takes one picture or text, and this range never depends on what else is encoded. Only products
with a matrix of weights are rounded: attention, norms, embeddings and convolutions stay in float32.

ONNX Runtime's own quantiser does not do this: where AVX2 clips sums of products it only offers one bit less for all
weights (`reduce_range`), while `quantize_columns` gives each output the least scale at which nothing is clipped.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import export_folder
from clipsearch.encoders.builtin.quantize import quantize_columns
from clipsearch.encoders.export_folder import ExportDamagedError, ExportMeta
from clipsearch.encoders.onnx_session import open_session
from clipsearch.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

log = logging.getLogger("clipsearch")

FOLDER = "int8"
MIN_COSINE = 0.98
"""How near a vector in 8 bits comes to the one in 32, at least, on what it is tried with."""

_VERSION = 1
_MIN_SHARE = 0.5


def open_int8(export: Path, meta: ExportMeta, tower: str, trials: Sequence[NDArray[Any]]) -> Any:  # noqa: ANN401
    """Open a tower of an export in 8 bits, for one thread a run; it is made where it is missing or damaged.

    tower: the file name of its graph. trials: inputs of one row, on which it must come near the exact tower.
    It is kept in `int8` beside the export, or made again each time if that cannot be written.
    Raises EncoderUnavailableError where 8 bits do not serve the model, EncoderError where ONNX Runtime refuses it.
    """
    kept = export.parent / FOLDER / f"{export.name}.{Path(tower).stem}.v{_VERSION}"
    try:
        export_folder.verify_export(kept)
    except ExportDamagedError:
        try:
            _make(export / tower, kept, meta, trials)
        except OSError as error:
            log.warning(
                "The int8 model cannot be stored in %s, so it is prepared again each time: %s. Free some space there.",
                kept.parent,
                error,
            )
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
                _write(export / tower, Path(scratch) / tower, meta.name, trials)
                return open_session(Path(scratch) / tower, 1)
    return open_session(kept / tower, 1)


def _make(source: Path, kept: Path, meta: ExportMeta, trials: Sequence[NDArray[Any]]) -> None:
    with export_folder.new_folder(kept.parent) as work:
        _write(source, work / source.name, meta.name, trials)
        described = dataclasses.replace(meta, files=export_folder.describe_files(work))
        (work / export_folder.META).write_text(described.dump(), encoding="utf-8")
        export_folder.publish(work, kept)


def _write(source: Path, target: Path, name: str, trials: Sequence[NDArray[Any]]) -> None:
    log.info("Preparing %s of %s in int8; this happens once.", source.name, name)
    _round_graph(source, target, name)
    cosine = _least_cosine(source, target, trials)
    if not cosine >= MIN_COSINE:
        raise _unfit(name, f"changes the vectors of {source.name} to a cosine of {cosine:.4f}, below {MIN_COSINE}")
    log.info("%s of %s in int8: a cosine of %.4f or more to fp32.", source.name, name, cosine)


def _round_graph(source: Path, target: Path, name: str) -> None:
    import onnx

    model = onnx.load(source)
    rounding = _Rounding(model.graph)
    total = rounding.weights
    rounded = rounding.run()
    if rounded < _MIN_SHARE * total:
        raise _unfit(name, f"covers only {rounded / total:.0%} of the weights of {source.name}")
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save_model(model, target, save_as_external_data=True, location=f"{target.name}.data")


def _least_cosine(exact: Path, rounded: Path, trials: Sequence[NDArray[Any]]) -> float:
    one, other = open_session(exact, 1), open_session(rounded, 1)
    name = one.get_inputs()[0].name
    return min(float((one.run(None, {name: row})[0] * other.run(None, {name: row})[0]).sum()) for row in trials)


def trial_pictures(height: int, width: int) -> list[NDArray[np.uint8]]:
    """Return inputs of an image tower, uint8 (1, height, width, 3): grain, fields of colour, black, and a ramp."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for side in (3, 8)]
    fields = [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in coarse]
    ramp = np.broadcast_to(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, width, 3))
    grain = rng.integers(0, 256, (height, width, 3), np.uint8)
    return [pixels[None] for pixels in (grain, *fields, np.zeros_like(grain), ramp)]


class _Rounding:
    """Replaces the nodes of one graph."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(output.name for output in graph.output)
        self._readers = {name: node for node in graph.node for name in node.input}

    @property
    def weights(self) -> int:
        """How many weights there are but those that are only looked up."""
        looked_up = {node.input[0] for node in self._graph.node if node.op_type == "Gather"}
        return sum(int(np.prod(t.dims)) for t in self._constants.values() if t.name not in looked_up)

    def run(self) -> int:
        """Replace every product that can be, drop the constants nothing uses, and return how many weights were met."""
        nodes: list[NodeProto] = []
        covered, merged = 0, set()
        for node in self._graph.node:
            product = _Product.read(node, self._constants)
            if product is not None:
                covered += product.size
                node = self._replace(node, product)
                merged.add(node.output[0])
            elif node.output[0] in merged:
                continue
            nodes.append(node)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self._constants.values() if tensor.name in used]
        for field, values in ((self._graph.node, nodes), (self._graph.initializer, kept)):
            del field[:]
            field.extend(values)
        return covered

    def _replace(self, node: NodeProto, product: _Product) -> NodeProto:
        from onnx import helper

        bias, output = product.bias, node.output[0]
        if not bias and (found := self._sum_with_constant(output)):
            bias, output = found
        numbers, scales = quantize_columns(product.matrix())
        given = [node.input[0]]
        for part, values in (("w", numbers), ("scale", scales), ("zero", np.zeros(len(scales), np.int8))):
            given.append(self._constant(f"{output}.{part}", values))
        return helper.make_node("DynamicQuantizeMatMul", [*given, bias], [output], node.name, domain="com.microsoft")

    def _sum_with_constant(self, product: str) -> tuple[str, str] | None:
        """Return the bias and the output of the sum that is all that becomes of a product, if there is one."""
        reader = self._readers.get(product)
        if reader is None or reader.op_type != "Add" or self._uses[product] != 1:
            return None
        other = reader.input[1] if reader.input[0] == product else reader.input[0]
        constant = self._constants.get(other)
        return (other, reader.output[0]) if constant is not None and len(constant.dims) == 1 else None

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(values, name)
        return name


@dataclasses.dataclass(frozen=True, slots=True)
class _Product:
    """A product with a constant matrix. turned: the matrix stands as (out, in). bias: a name, or nothing."""

    weights: TensorProto
    turned: bool
    bias: str

    @classmethod
    def read(cls, node: NodeProto, constants: Mapping[str, TensorProto]) -> _Product | None:
        from onnx import helper

        weights = constants.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if weights is None or len(weights.dims) != 2:
            return None
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        plain = not attributes.get("transA") and {attributes.get(name, 1.0) for name in ("alpha", "beta")} == {1.0}
        bias = node.input[2] if len(node.input) > 2 else ""
        whole = not bias or (bias in constants and len(constants[bias].dims) == 1)
        return cls(weights, bool(attributes.get("transB")), bias) if plain and whole else None

    @property
    def size(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.weights.dims))

    def matrix(self) -> NDArray[np.float32]:
        """Return the weights as float32 (in, out)."""
        from onnx import numpy_helper

        values: NDArray[np.float32] = numpy_helper.to_array(self.weights)
        return values.T if self.turned else values


def _unfit(name: str, fact: str) -> EncoderUnavailableError:
    return EncoderUnavailableError(
        f"int8 is not suitable for {name}: it {fact}. Use `--precision fp32` (in Python: Settings(precision='fp32'))."
    )
