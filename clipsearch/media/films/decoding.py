"""Frames of a film by PyAV: streamed, upright, small; as many as can be decoded of one that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.films.base import FilmRequest, film_format
from clipsearch.media.films.facts import read_facts
from clipsearch.media.films.hdr import HLG, PQ, to_sdr
from clipsearch.media.films.selection import Selection
from clipsearch.types import PartPosition

_ALL_FRAMES = 120.0
"""Seconds up to which every frame of a film is decoded; of a longer one key frames are enough where they are near."""

_LEAST_STEP = 0.5
"""Seconds between two frames that are looked at."""

_FRUITLESS = 2000
"""Packets in a row without a frame after which a film counts as damaged from there on."""

_MOST_STEPS = 20_000
"""Frames that are decoded to come to a time."""

_NEAR = 1.5
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, -90: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. time: in seconds from the start. picture: upright RGB."""

    time: float
    picture: Image.Image


class Film:
    """A film that is open. `note` says after the frames what is missing of it."""

    def __init__(self, file: BinaryIO, request: FilmRequest) -> None:
        """Open it. Raises PictureError for what is no film, or one without pictures, or with too large ones."""
        kind = film_format(file.read(64))
        file.seek(0)
        if kind is None:
            raise PictureError("not a film that clipsearch can read")
        try:
            self._container = av.open(file, format=kind, mode="r")
        except (FFmpegError, ValueError, OSError) as error:
            raise PictureError(f"damaged film ({_reason(error)})") from error
        streams = [each for each in self._container.streams.video if not _is_cover(each)]
        if not streams or streams[0].codec_context is None:
            raise PictureError("a film without pictures")
        self._stream = streams[0]
        self._request = request
        width, height = self._stream.codec_context.width, self._stream.codec_context.height
        if width * height > request.max_pixels:
            raise PictureError(
                f"{width} x {height} pixels, over the limit of {request.max_pixels} (setting max_pixels)"
            )
        self._base: Fraction = self._stream.time_base or Fraction(1, 1000)
        start = self._stream.start_time
        self._start = float(start * self._base) if start is not None else 0.0
        self.duration = self._duration()
        self.note = ""

    def facts(self, first: Image.Image) -> dict[str, Any]:
        """Return what is known of it, as JSON values. first: a frame, whose sides tell which way it is turned."""
        context = self._stream.codec_context
        width, height = _shown_size(context.width, context.height, self._stream.sample_aspect_ratio)
        if (first.width > first.height) != (width > height) and first.width != first.height:
            width, height = height, width
        said = {**self._stream.metadata, **self._container.metadata}
        return {"width": width, "height": height, "duration": self.duration, **read_facts(said)}

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that stand for it, in order of time. Raises PictureError if none can be decoded."""
        chosen = Selection(self._request.seconds, self._request.most, self.duration)
        last, last_time = -1, 0.0
        found = 0
        for frame in self._candidates():
            time = self._time(frame)
            last_time = max(last_time, time)
            step = int(time / _LEAST_STEP)
            if step == last:
                continue
            last = step
            picture = self._picture(frame)
            if chosen.takes(time, picture):
                found += 1
                yield Frame(time, picture)
            if chosen.is_full:
                break
        if not found:
            raise PictureError("no frame of it can be decoded")
        if not self.note and self.duration and last_time < self.duration - max(2.0, 2 * self._request.seconds):
            self.note = f"it can be decoded up to {PartPosition(time=last_time)} of {PartPosition(time=self.duration)}"

    def frame_at(self, time: float) -> Frame:
        """Return the frame that is shown at a time in seconds. Raises PictureError."""
        self._seek(time)
        best = None
        for steps, frame in enumerate(self._decoded()):
            best = frame
            if self._time(frame) >= time - 0.002 or steps > _MOST_STEPS:
                break
        if best is None:
            raise PictureError("its frame cannot be decoded")
        return Frame(self._time(best), self._picture(best))

    def _candidates(self) -> Iterator[av.VideoFrame]:
        keys = self._key_places()
        if keys is None:
            yield from self._decoded()
            return
        before, step = -1, max(1, int(_LEAST_STEP / self._base))
        for place in keys:
            if place // step != before and (frame := self._key_frame(place)) is not None:
                before = place // step
                yield frame

    def _key_places(self) -> list[int] | None:
        """Return the timestamps of the key frames of a long film where they are near each other; else None."""
        if self.duration is None or self.duration <= _ALL_FRAMES:
            return None
        entries = getattr(self._stream, "index_entries", ())
        places = sorted({each.timestamp for each in entries if each.is_keyframe})
        if places:  # an index may count from when a frame is decoded, which is before it is shown
            delay = round(self._start / self._base) - places[0]
            places = [place + delay for place in places]
        times = [float(place * self._base) - self._start for place in places]
        if not times or times[0] > _NEAR * self._request.seconds:
            return None
        gaps = [later - earlier for earlier, later in zip(times, [*times[1:], self.duration], strict=True)]
        return places if max(gaps) <= _NEAR * max(self._request.seconds, self.duration / self._request.most) else None

    def _key_frame(self, place: int) -> av.VideoFrame | None:
        """Decode the key frame at a timestamp alone; None where it is damaged."""
        context = self._stream.codec_context
        try:
            self._container.seek(place, stream=self._stream)
            for number, packet in enumerate(self._container.demux(self._stream)):
                if packet.is_keyframe and packet.size:
                    frames = [*context.decode(packet), *context.decode(None)]
                    context.flush_buffers()
                    return frames[0] if frames else None
                if number > _FRUITLESS or not packet.size:
                    return None
        except (FFmpegError, ValueError, OSError) as error:
            self.note = f"some of it cannot be decoded ({_reason(error)})"
        return None

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield every frame, as far as they can be decoded; damaged packets are left out."""
        fruitless = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (FFmpegError, ValueError, OSError) as error:
                self.note = f"its end cannot be read ({_reason(error)})"
                return
            try:
                frames = packet.decode()
            except (FFmpegError, ValueError) as error:
                frames, self.note = [], f"some of it cannot be decoded ({_reason(error)})"
            fruitless = 0 if frames else fruitless + 1
            if fruitless > _FRUITLESS:
                self.note = f"{_FRUITLESS} packets in a row hold no frame; the rest is left out"
                return
            yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))

    def _seek(self, time: float) -> None:
        self._container.seek(round((time + self._start) / self._base), stream=self._stream)

    def _time(self, frame: av.VideoFrame) -> float:
        return max(0.0, float(frame.pts * self._base) - self._start) if frame.pts is not None else 0.0

    def _duration(self) -> float | None:
        stream, container = self._stream, self._container
        if stream.duration:
            found = float(stream.duration * self._base)
        elif container.duration:
            found = container.duration / 1_000_000
        else:
            return None
        return round(found, 3) if 0 < found < 10**7 else None

    def _picture(self, frame: av.VideoFrame) -> Image.Image:
        """Return a frame as an upright picture whose shorter side is no more than what is needed."""
        if frame.width * frame.height > self._request.max_pixels:
            raise PictureError(f"a frame of {frame.width} x {frame.height} pixels (setting max_pixels)")
        width, height = _shown_size(frame.width, frame.height, self._stream.sample_aspect_ratio)
        scale = min(1.0, self._request.side / min(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        is_hdr = frame.color_trc in (PQ, HLG)
        rgb = frame.reformat(*size, format="rgb48le" if is_hdr else "rgb24", interpolation="AREA").to_ndarray()
        if is_hdr:
            rgb = to_sdr(rgb.astype(np.uint16, copy=False), frame.color_trc, frame.color_primaries)
        picture: Image.Image = Image.fromarray(rgb)
        turn = _TURNS.get(_quarter(frame.rotation))
        return picture if turn is None else picture.transpose(turn)


def _is_cover(stream: Any) -> bool:  # noqa: ANN401 - a stream of PyAV
    """Tell whether a stream is a picture that belongs to a film, and no film."""
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()


def _shown_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size in square pixels. aspect: width of a pixel over its height."""
    if not aspect or not Fraction(1, 8) <= aspect <= 8:
        return width, height
    return max(1, round(width * aspect)), height


def _quarter(degrees: float) -> int:
    """Return the nearest quarter turn: 0, 90, 180 or -90."""
    turned = round(degrees / 90) * 90 % 360
    return -90 if turned == 270 else turned


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:100] or type(error).__name__
