"""Camera RAW files made here: uncompressed DNG (Adobe DNG 1.4), as no camera wrote them."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
_CODES = {1: "B", 3: "H", 4: "I", 5: "II", 10: "ii"}
Entry = tuple[int, int, object]


def make_dng(
    picture: Image.Image,
    *,
    preview: Image.Image | None = None,
    orientation: int = 1,
    taken_at: str = "2024:06:01 10:11:12",
    gps: tuple[float, float] | None = None,
) -> bytes:
    """Return a DNG whose sensor (RGGB, 16 bits) saw `picture`, unturned; preview: a JPEG that it also holds."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.float64) / 255
    mosaic = np.empty(pixels.shape[:2], np.uint16)
    linear = np.rint(np.where(pixels <= 0.081, pixels / 4.5, ((pixels + 0.099) / 1.099) ** 2.22) * 65535)
    for row, column, band in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = linear[row::2, column::2, band]
    sensor = _sensor(mosaic)
    exif: list[Entry] = [(0x9003, 2, taken_at), (0x9004, 2, taken_at)]
    main: list[Entry] = [
        (271, 2, "Acme"), (272, 2, "Acme One"), (274, 3, [orientation]), (306, 2, taken_at),
        (50706, 1, [1, 4, 0, 0]), (50708, 2, "Acme One"), (50721, 10, _rationals(_XYZ_TO_SRGB)), (50778, 3, [21]),
        (50728, 5, [(1, 1), (1, 1), (1, 1)]),
    ]  # fmt: skip
    blocks: list[bytes] = []
    if preview is not None:
        data = BytesIO()
        preview.convert("RGB").save(data, "JPEG", quality=90)
        main += [
            (254, 4, [1]), (256, 4, [preview.width]), (257, 4, [preview.height]), (258, 3, [8, 8, 8]), (259, 3, [7]),
            (262, 3, [6]), (277, 3, [3]), (278, 4, [preview.height]), (279, 4, [len(data.getvalue())]),
        ]  # fmt: skip
        blocks = [data.getvalue()]
    return _join(main, sensor, exif, gps, blocks[0] if blocks else None, mosaic.tobytes())


_XYZ_TO_SRGB = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)


def _rationals(values: tuple[float, ...]) -> list[tuple[int, int]]:
    return [(round(value * 10000), 10000) for value in values]


def _sensor(mosaic: np.ndarray) -> list[Entry]:
    height, width = mosaic.shape
    return [
        (254, 4, [0]), (256, 4, [width]), (257, 4, [height]), (258, 3, [16]), (259, 3, [1]), (262, 3, [32803]),
        (277, 3, [1]), (278, 4, [height]), (279, 4, [mosaic.nbytes]), (33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]),
        (50714, 3, [0]), (50717, 4, [65535]),
    ]  # fmt: skip


def _join(
    main: list[Entry],
    sensor: list[Entry],
    exif: list[Entry],
    gps: tuple[float, float] | None,
    preview: bytes | None,
    mosaic: bytes,
) -> bytes:
    """Lay out the file: pictures first, then the directories, the main one last."""
    data = bytearray(b"II*\0\0\0\0\0")

    def put(block: bytes) -> int:
        at = len(data)
        data.extend(block + b"\0" * (-len(block) % 2))
        return at

    if preview is not None:
        main = [*main, (273, 4, [put(preview)])]
    sensor = [*sensor, (273, 4, [put(mosaic)])]
    if preview is None:  # then the main directory is that of the sensor
        main = [*main, *sensor]
    else:
        main = [*main, (330, 4, [_directory(sensor, put)])]
    main = [*main, (0x8769, 4, [_directory(exif, put)])]
    if gps is not None:
        main = [*main, (0x8825, 4, [_directory(_gps(*gps), put)])]
    data[4:8] = struct.pack("<I", _directory(main, put))
    return bytes(data)


def _gps(latitude: float, longitude: float) -> list[Entry]:
    def angle(value: float) -> list[tuple[int, int]]:
        return [(round(abs(value) * 1_000_000), 1_000_000), (0, 1), (0, 1)]

    return [
        (1, 2, "N" if latitude >= 0 else "S"), (2, 5, angle(latitude)),
        (3, 2, "E" if longitude >= 0 else "W"), (4, 5, angle(longitude)),
    ]  # fmt: skip


def _directory(entries: list[Entry], put: object) -> int:
    lines = b""
    for tag, kind, value in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(value, str):
            block, count = value.encode() + b"\0", len(value) + 1
        else:
            flat = [number for each in value for number in (each if isinstance(each, tuple) else (each,))]
            code = _CODES[kind]
            block = b"".join(
                struct.pack("<" + code, *flat[at : at + len(code)]) for at in range(0, len(flat), len(code))
            )
            count = len(block) // _SIZES[kind]
        inline = block.ljust(4, b"\0") if len(block) <= 4 else struct.pack("<I", put(block))
        lines += struct.pack("<HHI", tag, kind, count) + inline
    return put(struct.pack("<H", len(entries)) + lines + b"\0\0\0\0")
