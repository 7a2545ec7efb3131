"""Open exported graphs with ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipsearch.errors import EncoderError


def open_session(path: Path, threads: int, *, pack: bool = True) -> Any:  # noqa: ANN401
    """Open a graph on the CPU with a number of threads that sleep when idle.

    pack: copy the weights into the order that the processor likes best, which takes time once and saves some each run.
    Raises EncoderError when ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "0" if pack else "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderError(
            f"The exported model {path} cannot be loaded: {error}. Delete its folder and try again."
        ) from error
