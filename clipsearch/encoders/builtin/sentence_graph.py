"""The multilingual sentence encoder as an ONNX graph: a deep averaging network with convolutions over words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.graph_builder import GraphBuilder

if TYPE_CHECKING:
    from onnx import ModelProto

WORDS, FEATURES = "words", "features"

RUNS = ((2, 0), (3, 1), (5, 2))
"""Words in a run, and how many of them stand before the word that the run belongs to."""

_WIDTH = 512
_CHANNELS = 256

Weights = dict[str, NDArray[Any]]


def sentence_tower(weights: Weights) -> ModelProto:
    """Build the encoder.

    weights: as the package names them. Returns a model from `words`, float32 (1, tokens, 512), the rows of the table
    for the tokens of one text, to `features`, float32 (1, 1344): the vector of the text, of unit length, the mean of
    its words, and the layer between the two.
    """
    from onnx import TensorProto, helper

    tower = _SentenceTower(weights)
    given = helper.make_tensor_value_info(WORDS, TensorProto.FLOAT, [1, "tokens", _WIDTH])
    width = _WIDTH + weights["cnn_W"].shape[1] + weights["d1"].shape[1]
    return tower.build().model(given, [(FEATURES, [1, width])])


class _SentenceTower:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._graph = GraphBuilder()

    def build(self) -> GraphBuilder:
        """Build the whole graph."""
        mean = self._mean()
        middle = self._relu(self._sum(self._times(mean, "p1"), self._times(self._relu(self._times(mean, "d0")), "d1")))
        last = self._sum(self._times(middle, "p3"), self._times(self._relu(self._times(middle, "d2")), "d3"))
        vector = self._graph.add("LpNormalization", self._graph.add("Tanh", last), axis=-1)
        self._graph.add("Concat", vector, mean, middle, output=FEATURES, axis=1)
        return self._graph

    def _mean(self) -> str:
        """Add up the tokens, and divide by the root of their number."""
        graph = self._graph
        tokens = self._norm(graph.add("Concat", WORDS, *self._runs_of_words(), axis=2), "ln_g", "ln_b")
        mapped = self._sum(self._times(tokens, "cnn_W"), self._constant("cnn_b"))
        total = graph.add("ReduceSum", mapped, graph.constant("axis", np.array([1], np.int64)), keepdims=0)
        count = graph.add("Cast", graph.add("Shape", WORDS, start=1, end=2), to=1)
        return graph.add("Div", total, graph.add("Sqrt", count))

    def _runs_of_words(self) -> list[str]:
        """Return a layer for each length of runs, (1, tokens, 256): two residual convolutions over the words."""
        graph = self._graph
        first = self._sum(self._times(WORDS, self._join("proj")), self._constant(self._join("proj_b")))
        turned = graph.add("Transpose", self._norm(first, self._join("ln_g"), self._join("ln_b")), perm=[0, 2, 1])
        parts = [self._channels(turned, number * _CHANNELS) for number in range(len(RUNS))]
        return [self._convolve(part, length, before) for part, (length, before) in zip(parts, RUNS, strict=True)]

    def _channels(self, given: str, start: int) -> str:
        ends = [self._graph.constant(f"at{at}", np.array([at], np.int64)) for at in (start, start + _CHANNELS)]
        return self._graph.add("Slice", given, *ends, self._graph.constant("axis", np.array([1], np.int64)))

    def _convolve(self, given: str, length: int, before: int) -> str:
        graph = self._graph
        for layer in (1, 2):
            kernel = self._weights[f"w{layer}_{length}"].reshape(length, _CHANNELS, _CHANNELS).transpose(2, 1, 0)
            operands = [graph.constant(f"kernel{layer}_{length}", kernel), self._constant(f"b{layer}_{length}")]
            seen = graph.add("Conv", given, *operands, kernel_shape=[length], pads=[before, length - 1 - before])
            given = self._sum(self._relu(seen), given)
        return graph.add("Transpose", given, perm=[0, 2, 1])

    def _join(self, name: str) -> str:
        """Lay the weights of all lengths side by side, under the name alone."""
        self._graph.constant(f"joined.{name}", np.concatenate([self._weights[f"{name}{run}"] for run, _ in RUNS], -1))
        return f"joined.{name}"

    def _norm(self, given: str, gain: str, bias: str) -> str:
        epsilon = float(self._weights["eps"])
        operands = [self._constant(gain), self._constant(bias)]
        return self._graph.add("LayerNormalization", given, *operands, axis=-1, epsilon=epsilon)

    def _times(self, given: str, name: str) -> str:
        return self._graph.add("MatMul", given, self._constant(name))

    def _sum(self, one: str, other: str) -> str:
        return self._graph.add("Add", one, other)

    def _relu(self, given: str) -> str:
        return self._graph.add("Relu", given)

    def _constant(self, name: str) -> str:
        return name if name.startswith("joined.") else self._graph.constant(name, self._weights[name])
