"""Films made with PyAV: scenes of patterns that an encoder and a hash tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

SIZE = (160, 96)

_FIXED = {"mpeg4", "mpeg2video", "wmv2", "flv1"}
"""Encoders of a fixed rate."""


def scene(number, size=SIZE, shift=0):
    """The picture of a scene: coarse blocks of colours that no other scene has. uint8 (height, width, 3)."""
    blocks = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    width, height = size
    picture = np.repeat(np.repeat(blocks, -(-height // 6), 0), -(-width // 8), 1)[:height, :width]
    return np.ascontiguousarray(np.roll(picture, shift, 1))


def write_film(
    path: Path,
    frames: Iterable[tuple[float, np.ndarray]],
    *,
    codec: str = "libx264",
    rotation: int = 0,
    metadata: dict[str, str] | None = None,
    gop: int = 250,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames, each with its time in seconds. rotation: degrees by which a player turns it. gop: frames.

    options: of the encoder.
    """
    import av

    muxing = {"movflags": "use_metadata_tags"} if path.suffix in {".mp4", ".mov", ".m4v"} else {}
    with av.open(
        str(path), "w", format="mpegts" if path.suffix == ".mts" else None, container_options=muxing
    ) as container:
        for name, value in (metadata or {}).items():
            container.metadata[name] = value
        stream = None
        for time, picture in frames:
            if stream is None:
                stream = container.add_stream(codec, rate=25, options=options or {})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = gop
                stream.codec_context.time_base = Fraction(
                    1, 25 if codec in {"mpeg4", "mpeg2video", "wmv2", "flv1"} else 1000
                )
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return path


def write_hdr(path: Path, patches: np.ndarray, transfer: int, *, codec: str = "libx265", full: bool = False) -> Path:
    """Write a film of half a second whose frames are patches side by side, in BT.2020 with 10 bits.

    patches: float (n, 3), encoded RGB from 0 to 1. transfer: as of ITU-T H.273. full: whether all levels are used.
    """
    import av

    red, green, blue = np.asarray(patches, float).T
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    chroma = (blue - luma) / 1.8814, (red - luma) / 1.4746
    levels = [1023 * luma if full else 64 + 876 * luma, *(512 + (1023 if full else 896) * each for each in chroma)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"x265-params": "lossless=1:log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64 * len(patches), 64, "yuv420p10le"
        colors = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 2 if full else 1}
        frame = av.VideoFrame(stream.width, stream.height, "yuv420p10le")
        for name, value in colors.items():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        for plane, values in zip(frame.planes, levels, strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
            rows[:, : plane.width] = np.repeat(np.clip(np.rint(values), 0, 1023), plane.width // len(patches))
            plane.update(rows.tobytes())
        for number in range(5):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scenes(numbers: Sequence[int], seconds: float, rate: float = 5, size=SIZE):
    """Yield the frames of scenes, each so many seconds long."""
    count = round(seconds * rate)
    for place, number in enumerate(numbers):
        picture = scene(number, size)
        for step in range(count):
            yield (place * count + step) / rate, picture


def write_audio(path: Path, seconds: int = 2) -> Path:
    """Write a film without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        for step in range(seconds * 16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 1000 * step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
