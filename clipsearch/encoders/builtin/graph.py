"""Build the ONNX graphs of the towers from raw weights.

EfficientNet-Lite: Tan and Le 2019 (arXiv:1905.11946), the Lite variants without squeeze-and-excitation and with
ReLU6. MiniLM: Wang et al. 2020 (arXiv:2002.10957), a BERT encoder with mean pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.graph_builder import GraphBuilder
from clipsearch.encoders.builtin.quantize import (
    Range,
    quantize_columns,
    quantize_filters,
    quantize_rows,
    scale_and_zero,
)
from clipsearch.encoders.builtin.weights import Weights

if TYPE_CHECKING:
    from onnx import ModelProto

PIXELS = "pixels"
FEATURES = "features"
LOGITS = "logits"
IDS = "ids"
EMBEDDING = "embedding"

_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""The stride of the first block of each stage of EfficientNet."""

_BATCH_NORM_EPSILON = 1e-3
_LAYERS = 6
_POOLED_LAYERS = (6, 4)
"""The text layers that are averaged, counted from 1; their shares of the output lie side by side in this order."""

_HEADS = 12
_WIDTH = 384
_LAYER_NORM_EPSILON = 1e-12


def picture_tower(weights: Weights, side: int, ranges: Sequence[Range] | None = None) -> ModelProto:
    """Build an EfficientNet-Lite.

    weights: its state dict. side: pixels. ranges: of every activation in the order of the layers, for an int8
    graph; None for a float32 graph, in which the activations are named as `activation_names` says.
    Returns a model from `pixels`, uint8 (n, side, side, 3), to `features`, float32 (n, width), the pooled layers
    whose widths `pooled_widths` gives, side by side, each of unit length; and `logits`, float32 (n, 1000).
    """
    from onnx import TensorProto, helper

    tower = _PictureTower(weights, side, ranges)
    given = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["n", side, side, 3])
    return tower.build().model(given, [(FEATURES, ["n", "width"]), (LOGITS, ["n", 1000])])


def activation_names(weights: Weights, side: int) -> list[str]:
    """Return the names of the activations of the float32 graph in the order of the layers, for calibration."""
    tower = _PictureTower(weights, side, None)
    tower.build()
    return tower.activations


def pooled_widths(weights: Weights) -> list[int]:
    """Return the widths of the layers that `features` holds: the last, and the wide ones of the last two blocks."""
    wide = [weights[f"_blocks.{index}._depthwise_conv.weight"].shape[0] for index in _wide_blocks(weights)]
    return [weights["_fc.weight"].shape[1], *wide]


def _wide_blocks(weights: Weights) -> list[int]:
    """Return the last block but one, which ends a stage, and the last."""
    count = _count_blocks(weights)
    return [count - 2, count - 1]


def _count_blocks(weights: Weights) -> int:
    return sum(name.endswith("_depthwise_conv.weight") for name in weights)


class _PictureTower:
    def __init__(self, weights: Weights, side: int, ranges: Sequence[Range] | None) -> None:
        self._weights = weights
        self._side = side
        self._ranges = ranges
        self._graph = GraphBuilder()
        self.activations: list[str] = []
        self._scales: dict[str, np.float32] = {}

    def build(self) -> GraphBuilder:
        """Build the whole graph."""
        graph = self._graph
        last = self._conv(self._input(), "_conv_stem", "_bn0", stride=2, clip=True)
        strides = self._block_strides()
        for index, stride in enumerate(strides):
            last = self._block(last, f"_blocks.{index}.", stride)
        last = self._conv(last, "_conv_head", "_bn1", clip=True)
        mean = graph.add("ReduceMean", last, axes=[2, 3], keepdims=0)
        rows = graph.constant("fc.weight", self._weights["_fc.weight"])
        graph.add("Gemm", mean, rows, graph.constant("fc.bias", self._weights["_fc.bias"]), output=LOGITS, transB=1)
        # The last layer is trained to tell classes apart; the wide ones before it still hold scene and colour.
        wide = [self._roots(f"_blocks.{index}._depthwise_conv.out") for index in _wide_blocks(self._weights)]
        graph.add("Concat", self._roots(last), *wide, output=FEATURES, axis=1)
        return graph

    def _roots(self, given: str) -> str:
        """Average the square roots over all places, which evens out a few large values; scale to unit length."""
        graph = self._graph
        return graph.add("LpNormalization", graph.add("ReduceMean", graph.add("Sqrt", given), axes=[2, 3], keepdims=0))

    def _block_strides(self) -> list[int]:
        """Return one stride a block; a stage begins where the width changes, or is the last of equal ones."""
        count = _count_blocks(self._weights)
        widths = [self._weights[f"_blocks.{index}._project_conv.weight"].shape[0] for index in range(count)]
        strides = iter(_STRIDES)
        return [next(strides) if index == 0 or widths[index] != widths[index - 1] else 1 for index in range(count)]

    def _input(self) -> str:
        """Normalise uint8 pixels to (x - 127) / 128, by reading them as numbers that were quantised so."""
        planes = self._graph.add("Transpose", PIXELS, perm=[0, 3, 1, 2])
        scale = self._graph.constant("pixel.scale", np.float32(1 / 128))
        zero = self._graph.constant("pixel.zero", np.uint8(127))
        name = self._graph.add("DequantizeLinear", planes, scale, zero)
        self._scales[name] = np.float32(1 / 128)
        return name

    def _block(self, given: str, prefix: str, stride: int) -> str:
        last, side = given, self._side
        if f"{prefix}_expand_conv.weight" in self._weights:
            last = self._conv(last, f"{prefix}_expand_conv", f"{prefix}_bn0", clip=True)
        last = self._conv(last, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, clip=True)
        entering = self._side
        last = self._conv(last, f"{prefix}_project_conv", f"{prefix}_bn2")
        before = self._weights.get(f"{prefix}_expand_conv.weight", self._weights[f"{prefix}_depthwise_conv.weight"])
        width = before.shape[1] if f"{prefix}_expand_conv.weight" in self._weights else before.shape[0]
        if stride == 1 and side == entering and width == self._weights[f"{prefix}_project_conv.weight"].shape[0]:
            last = self._activation(self._graph.add("Add", last, given, output=f"{prefix}sum.raw"), f"{prefix}sum")
        return last

    def _conv(self, given: str, name: str, norm: str, *, stride: int = 1, clip: bool = False) -> str:
        weight, bias = self._fold(name, norm)
        size = weight.shape[2]
        attributes = {
            "strides": [stride, stride],
            "pads": self._same_padding(size, stride),
            "kernel_shape": [size, size],
        }
        groups = weight.shape[0] if weight.shape[1] == 1 else 1
        self._side = -(-self._side // stride)
        operands = self._quantized(given, name, weight, bias) if self._ranges else self._plain(name, weight, bias)
        last = self._graph.add("Conv", given, *operands, output=f"{name}.raw", group=groups, **attributes)
        if clip and not self._ranges:
            limits = [self._graph.constant(key, np.float32(value)) for key, value in (("zero", 0), ("six", 6))]
            last = self._graph.add("Clip", last, *limits)
        return self._activation(last, name)

    def _same_padding(self, size: int, stride: int) -> list[int]:
        """Pad as TensorFlow does: what is odd goes after."""
        total = max((-(-self._side // stride) - 1) * stride + size - self._side, 0)
        return [total // 2, total // 2, total - total // 2, total - total // 2]

    def _fold(self, name: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Fold the batch normalisation into the convolution before it."""
        weights = self._weights
        gain = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
        return weights[f"{name}.weight"] * gain[:, None, None, None], bias

    def _plain(self, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> tuple[str, str]:
        return self._graph.constant(f"{name}.w", weight), self._graph.constant(f"{name}.b", bias)

    def _quantized(
        self, given: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[str, str]:
        graph = self._graph
        # A dead filter has no weights but may have a bias, whose steps must still reach it.
        least = (np.abs(bias) / self._scales[given] / 2**30).astype(np.float32)
        numbers, scales = quantize_filters(weight, least)
        steps = scales * self._scales[given]
        bias_numbers = np.rint(bias / steps).astype(np.int32)
        zeros = graph.constant(f"{name}.w.zero", np.zeros(len(scales), np.int8))
        operands = [graph.constant(f"{name}.w", numbers), graph.constant(f"{name}.w.scale", scales), zeros]
        quantized = graph.add("DequantizeLinear", *operands, axis=0)
        operands = [graph.constant(f"{name}.b", bias_numbers), graph.constant(f"{name}.b.scale", steps)]
        return quantized, graph.add("DequantizeLinear", *operands, axis=0)

    def _activation(self, given: str, name: str) -> str:
        """Name an activation, or round it to uint8; saturation at both ends then does the work of ReLU6."""
        self.activations.append(f"{name}.out")
        if not self._ranges:
            return self._graph.add("Identity", given, output=f"{name}.out")
        scale, zero = scale_and_zero(self._ranges[len(self.activations) - 1])
        operands = [self._graph.constant(f"{name}.scale", scale), self._graph.constant(f"{name}.zero", zero)]
        rounded = self._graph.add("QuantizeLinear", given, *operands)
        last = self._graph.add("DequantizeLinear", rounded, *operands, output=f"{name}.out")
        self._scales[last] = scale
        return last


def text_tower(weights: Weights, *, int8: bool) -> ModelProto:
    """Build MiniLM-L6.

    weights: its tensors. int8: round the matrices to int8, and the activations of each run by their own range.
    Returns a model from `ids`, int64 (1, tokens), to `embedding`, float32 (1, 768), the mean over tokens of the last
    layer and of a middle one, each of unit length. It takes one text a run: so a row cannot depend on a batch, and
    nothing is padded or masked.
    """
    from onnx import TensorProto, helper

    tower = _TextTower(weights, int8)
    given = helper.make_tensor_value_info(IDS, TensorProto.INT64, [1, "tokens"])
    return tower.build().model(given, [(EMBEDDING, [1, len(_POOLED_LAYERS) * _WIDTH])])


class _TextTower:
    def __init__(self, weights: Weights, int8: bool) -> None:
        self._weights = weights
        self._int8 = int8
        self._graph = GraphBuilder()

    def build(self) -> GraphBuilder:
        """Build the whole graph."""
        layers = [self._embed()]
        for index in range(_LAYERS):
            layers.append(self._layer(layers[-1], f"encoder.layer.{index}."))
        # The last layer is trained to tell meanings apart; a middle one still holds more of the words.
        pooled = [self._mean_token(layers[index]) for index in _POOLED_LAYERS]
        self._graph.add("Concat", *pooled, output=EMBEDDING, axis=1)
        return self._graph

    def _mean_token(self, given: str) -> str:
        return self._graph.add("LpNormalization", self._graph.add("ReduceMean", given, axes=[1], keepdims=0))

    def _embed(self) -> str:
        graph, weights = self._graph, self._weights
        words = self._word_rows(weights["embeddings.word_embeddings.weight"])
        # One segment only, so its constant row goes into the places.
        places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        count = graph.add("Shape", IDS, start=1, end=2)
        start, axis = (graph.constant(name, np.array([0], np.int64)) for name in ("from", "axis"))
        here = graph.add("Slice", graph.constant("places", places), start, count, axis)
        return self._norm(graph.add("Add", words, here), "embeddings.LayerNorm")

    def _word_rows(self, table: NDArray[np.float32]) -> str:
        graph = self._graph
        if not self._int8:
            return graph.add("Gather", graph.constant("words", table), IDS)
        numbers, scales = quantize_rows(table)
        rows = graph.add("Cast", graph.add("Gather", graph.constant("words", numbers), IDS), to=1)
        return graph.add("Mul", rows, graph.add("Gather", graph.constant("words.scale", scales), IDS))

    def _layer(self, given: str, prefix: str) -> str:
        graph = self._graph
        attended = self._linear(self._attention(given, f"{prefix}attention.self."), f"{prefix}attention.output.dense")
        middle = self._norm(graph.add("Add", attended, given), f"{prefix}attention.output.LayerNorm")
        wide = graph.add("Gelu", self._linear(middle, f"{prefix}intermediate.dense"), domain="com.microsoft")
        narrow = self._linear(wide, f"{prefix}output.dense")
        return self._norm(graph.add("Add", narrow, middle), f"{prefix}output.LayerNorm")

    def _attention(self, given: str, prefix: str) -> str:
        graph = self._graph
        merged = self._linear(given, f"{prefix}query", f"{prefix}key", f"{prefix}value")
        shape = graph.constant("split", np.array([1, -1, 3, _HEADS, _WIDTH // _HEADS], np.int64))
        stacked = graph.add("Transpose", graph.add("Reshape", merged, shape), perm=[2, 0, 3, 1, 4])
        parts = [self._part(stacked, index) for index in range(3)]
        turned = graph.add("Transpose", parts[1], perm=[0, 1, 3, 2])
        scale = graph.constant("attention.scale", np.float32((_WIDTH // _HEADS) ** -0.5))
        weights = graph.add("Softmax", graph.add("Mul", graph.add("MatMul", parts[0], turned), scale), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
        return graph.add("Reshape", mixed, graph.constant("join", np.array([1, -1, _WIDTH], np.int64)))

    def _part(self, stacked: str, index: int) -> str:
        return self._graph.add("Gather", stacked, self._graph.constant(f"index.{index}", np.int64(index)), axis=0)

    def _linear(self, given: str, *names: str) -> str:
        """Multiply by one or several matrices at once, whose outputs are laid side by side."""
        graph, key = self._graph, names[0]
        matrix = np.concatenate([self._weights[f"{name}.weight"] for name in names]).T
        bias = graph.constant(f"{key}.b", np.concatenate([self._weights[f"{name}.bias"] for name in names]))
        if not self._int8:
            return graph.add("Add", graph.add("MatMul", given, graph.constant(f"{key}.w", matrix)), bias)
        numbers, scales = quantize_columns(matrix)
        operands = [graph.constant(f"{key}.w", numbers), graph.constant(f"{key}.w.scale", scales)]
        zeros = graph.constant(f"{key}.w.zero", np.zeros(len(scales), np.int8))
        return graph.add("DynamicQuantizeMatMul", given, *operands, zeros, bias, domain="com.microsoft")

    def _norm(self, given: str, name: str) -> str:
        graph, weights = self._graph, self._weights
        operands = [graph.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return graph.add("LayerNormalization", given, *operands, axis=-1, epsilon=_LAYER_NORM_EPSILON)
