"""Give the graph of a tower the input and the output that clipsearch's own exports have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.encoders.preprocessing import PictureTransform

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

INPUT, OUTPUT = "clipsearch.input", "clipsearch.vectors"
_MASK = "attention_mask"


def wrap_image(model: ModelProto, picture: PictureTransform) -> ModelProto:
    """Let a tower take uint8 (n, height, width, 3) and give unit rows; the model is changed.

    Raises ValueError for a model whose input is not a batch of pictures.
    """
    from onnx import TensorProto, helper

    given = _inputs(model)
    if len(given) != 1 or len(_shape(given[0])) != 4:
        raise ValueError(f"it takes {[each.name for each in given]!r}, not one batch of pictures")
    kind, shape, name = given[0].type.tensor_type.elem_type, _shape(given[0]), given[0].name
    sizes = (picture.height, picture.width)
    if kind == TensorProto.UINT8:
        expected: tuple[int, ...] = (*sizes, 3)
        nodes = [helper.make_node("Identity", [INPUT], [name])]
    elif kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
        expected = (3, *sizes)
        nodes = _scaling(model, picture, name, kind)
    else:
        raise ValueError(f"it takes pictures as {TensorProto.DataType.Name(kind)}, not as float or uint8")
    if any(size not in (None, wanted) for size, wanted in zip(shape[1:], expected, strict=True)):
        raise ValueError(f"it takes pictures of {shape[1:]}, but preprocess_cfg.json makes {expected}")
    return _wrapped(model, nodes, TensorProto.UINT8, [*sizes, 3])


def wrap_text(model: ModelProto, pad_id: int) -> ModelProto:
    """Let a tower take int64 (n, length) alone and give unit rows; the model is changed.

    pad_id: what the attention mask leaves out, where the tower wants one. Raises ValueError for an input of no texts.
    """
    from onnx import TensorProto, helper, numpy_helper

    ids, nodes = _ids(model), []
    for each in _inputs(model):
        kind = each.type.tensor_type.elem_type
        if kind not in (TensorProto.INT32, TensorProto.INT64):
            raise ValueError(f"its input {each.name!r} is {TensorProto.DataType.Name(kind)}, not int32 or int64")
        if each.name == ids.name:
            nodes.append(helper.make_node("Cast", [INPUT], [each.name], to=kind))
            continue
        pad = f"{INPUT}.pad"
        model.graph.initializer.append(numpy_helper.from_array(np.array(pad_id, np.int64), pad))
        nodes.append(helper.make_node("Equal", [INPUT, pad], [f"{INPUT}.padding"]))
        nodes.append(helper.make_node("Not", [f"{INPUT}.padding"], [f"{INPUT}.text"]))
        nodes.append(helper.make_node("Cast", [f"{INPUT}.text"], [each.name], to=kind))
    return _wrapped(model, nodes, TensorProto.INT64, [text_length(model) or "length"])


def text_length(model: ModelProto) -> int | None:
    """Return how many ids a text tower takes a row; None for any number. Raises ValueError for an input of no texts."""
    return _shape(_ids(model))[1]


def save(model: ModelProto, path: Path) -> None:
    """Write a graph with its weights in a file beside it, from which they are mapped. Raises ValueError, OSError."""
    import onnx

    try:
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it cannot be written again ({type(error).__name__}: {str(error)[:200]})") from error


def fix_batch(path: Path) -> None:
    """Let a saved graph take one row at a time."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save_model(model, path)


def _scaling(model: ModelProto, picture: PictureTransform, name: str, kind: int) -> list[Any]:
    """Return the nodes of what PictureTransform.scale does."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "bytes": np.array(255, np.float32),
        "mean": np.array(picture.mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(picture.std, np.float32).reshape(1, 3, 1, 1),
    }
    for key, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{INPUT}.{key}"))
    steps: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
        ("Cast", (), {"to": TensorProto.FLOAT}),
        ("Transpose", (), {"perm": [0, 3, 1, 2]}),
        ("Div", (f"{INPUT}.bytes",), {}),
        ("Sub", (f"{INPUT}.mean",), {}),
        ("Div", (f"{INPUT}.std",), {}),
        ("Cast", (), {"to": kind}),
    ]
    nodes, current = [], INPUT
    for number, (operator, constant, options) in enumerate(steps):
        made = name if number == len(steps) - 1 else f"{INPUT}.{number}"
        nodes.append(helper.make_node(operator, [current, *constant], [made], **options))
        current = made
    return nodes


def _wrapped(model: ModelProto, nodes: list[Any], kind: int, shape: list[Any]) -> ModelProto:
    from onnx import TensorProto, helper

    graph = model.graph
    if not graph.output:
        raise ValueError("it gives nothing")
    end = [
        helper.make_node("Cast", [graph.output[0].name], [f"{OUTPUT}.float"], to=TensorProto.FLOAT),
        helper.make_node("LpNormalization", [f"{OUTPUT}.float"], [OUTPUT], axis=-1, p=2),
    ]
    all_nodes = [*nodes, *graph.node, *end]
    for field in (graph.node, graph.input, graph.output, graph.value_info):
        del field[:]  # sizes that were written down are those of one row
    graph.node.extend(all_nodes)
    graph.input.append(helper.make_tensor_value_info(INPUT, kind, ["batch", *shape]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None))
    return model


def _ids(model: ModelProto) -> ValueInfoProto:
    given = [each for each in _inputs(model) if each.name != _MASK]
    if len(given) != 1 or len(_inputs(model)) > 2 or any(len(_shape(each)) != 2 for each in _inputs(model)):
        raise ValueError(f"it takes {[each.name for each in _inputs(model)]!r}, not one batch of ids")
    return given[0]


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in constants]


def _shape(value: ValueInfoProto) -> list[int | None]:
    """Return the sizes of an input; None for one that is free."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]
