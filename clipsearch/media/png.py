"""A PNG that was cut off, made whole where nearly all of its rows are there, or one with damaged chunks of metadata.

Chunks: PNG (W3C, 2003), chapter 5.
"""

from __future__ import annotations

import zlib
from struct import Struct

_START = 8
_CHUNK = Struct(">I4s")
_HEAD = Struct(">IIBBBBB")
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by color type."""


def essential(data: bytes) -> bytes:
    """Return the file with only the chunks that its pixels need: without metadata, animation frames and profiles."""
    kept, at = [data[:_START]], _START
    while at + _CHUNK.size <= len(data):
        length, name = _CHUNK.unpack_from(data, at)
        end = at + _CHUNK.size + length + 4
        if name in _NEEDED:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def complete(data: bytes, max_bytes: int) -> tuple[bytes, float] | None:
    """Return a whole file whose missing rows are as the last one, and the share of rows that were there.

    max_bytes: the most that its pixels may take. None for a file that is not cut off in its pixels, is interlaced, or
    larger.
    """
    chunks: list[tuple[bytes, bytes]] = []
    at = _START
    while at + _CHUNK.size <= len(data):
        length, name = _CHUNK.unpack_from(data, at)
        chunks.append((name, data[at + _CHUNK.size : at + _CHUNK.size + length]))
        at += _CHUNK.size + length + 4
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != _HEAD.size:
        return None
    width, height, depth, color, _, _, interlace = _HEAD.unpack(chunks[0][1])
    line = 1 + (width * depth * _SAMPLES.get(color, 4) + 7) // 8
    if interlace or not height or line * height > max_bytes:
        return None
    pixels = _inflate(b"".join(body for name, body in chunks if name == b"IDAT"), line * height)
    rows = len(pixels) // line
    # Filter 2 takes each byte from the row above.
    whole = pixels[: rows * line] + (b"\2" + bytes(line - 1)) * (height - rows)
    before = [chunk for chunk in chunks[: _first(chunks)] if chunk[0] in _NEEDED]
    made = [*before, (b"IDAT", zlib.compress(whole, 1)), (b"IEND", b"")]
    return data[:_START] + b"".join(_pack(name, body) for name, body in made), rows / height


def _first(chunks: list[tuple[bytes, bytes]]) -> int:
    """Return where the pixels begin; what lies behind them is not needed."""
    return next((at for at, (name, _) in enumerate(chunks) if name == b"IDAT"), len(chunks))


def _inflate(data: bytes, most: int) -> bytes:
    """Decompress as far as it makes sense, up to so many bytes."""
    found = bytearray()
    decompressor = zlib.decompressobj()
    try:
        for at in range(0, len(data), 1 << 12):  # of a block that is damaged, what comes before it
            found += decompressor.decompress(data[at : at + (1 << 12)], most - len(found))
            if len(found) >= most:
                break
    except zlib.error:
        pass
    return bytes(found)


def _pack(name: bytes, body: bytes) -> bytes:
    return _CHUNK.pack(len(body), name) + body + zlib.crc32(name + body).to_bytes(4, "big")
