"""Write videos in which a line moves over a picture in time with the sound.

Shapes: h rows and w columns of a picture, n samples of sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from its.media.atomic import NotWritten, atomic
from its.media.captions import BACKGROUND, draw_captions

Array = np.ndarray[Any, np.dtype[Any]]

FPS = 30
NARROWEST, WIDEST = 480, 1920
"""Minimum width, for captions to fit, and maximum width of a video, in pixels. Pictures are resized to it."""

AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates in Hz that all players support. Sound of another rate is resampled to the next higher one."""

WHITE, BLACK, NEUTRAL = 235, 16, 128
"""Values in 8-bit YUV of limited range."""


def write_video(
    path: Path,
    pictures: Sequence[Array],
    waveform: Array,
    sample_rate: int,
    *,
    captions: Sequence[str] = (),
    note: str = "",
    comment: str | None = None,
) -> None:
    """Write an MP4 (H.264, AAC) that browsers play, atomically.

    Args:
        path: of the file.
        pictures: stacked vertically; (h, w) or (h, w, 3) from 0 to 255, all of one width.
        waveform: (n,) or (n, 2), 16-bit; its duration is that of the video.
        sample_rate: in Hz.
        captions: lines below the pictures.
        note: a dimmer line below the captions.
        comment: metadata; None for none.

    Raises:
        NotWritten: the file can't be written.
    """
    import av

    still, height = _still(pictures, captions, note)
    options = {"movflags": "faststart"}
    try:
        with atomic(path) as partial, av.open(str(partial), "w", format="mp4", options=options) as container:
            if comment is not None:
                container.metadata["comment"] = comment
            tracks = (_Picture(container, still), _Sound(container, waveform, sample_rate))
            tracks[1].encode()
            tracks[0].encode(height=height, seconds=len(waveform) / sample_rate)
    except av.FFmpegError as error:
        raise NotWritten(error.errno, error.strerror, str(path)) from None


def line_column(frame: int, *, width: int, seconds: float) -> int:
    """Return the pixel column of the line in a frame: the position in the sound when the frame appears."""
    return min(int(frame / FPS / seconds * width), width - 1)


class _Picture:
    """The video stream: a still picture, with the line drawn into a copy of it for each frame."""

    def __init__(self, container: Any, still: Array) -> None:
        from av import VideoFrame

        self.container = container
        self.rows, self.width = still.shape[:2]
        # Stills compress well with any preset; CRF 18 keeps the fine strokes of spectrograms.
        self.stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "18"})
        self.stream.width, self.stream.height, self.stream.pix_fmt = self.width, self.rows, "yuv420p"
        self.stream.thread_count = 1  # more threads are no faster, and take cores from the sampling
        frame = VideoFrame.from_ndarray(still, format="rgb24").reformat(format="yuv420p")
        self.planes = frame.to_ndarray()  # (3/2 h, w): luma, then both chroma planes at half the size

    def encode(self, *, height: int, seconds: float) -> None:
        from av import VideoFrame

        for number in range(max(1, math.ceil(round(seconds * FPS, 6)))):
            planes = self.planes.copy()
            self._draw(planes, line_column(number, width=self.width, seconds=seconds), height)
            frame = VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            self.container.mux(self.stream.encode(frame))
        self.container.mux(self.stream.encode(None))

    def _draw(self, planes: Array, column: int, height: int) -> None:
        """Draw a white line with black edges, visible on any picture, over the upper `height` rows."""
        planes[:height, max(column - 2, 0) : column + 3] = BLACK
        planes[:height, max(column - 1, 0) : column + 2] = WHITE
        colors = planes[self.rows :].reshape(2, self.rows // 2, self.width // 2)
        colors[:, : height // 2, max(column // 2 - 1, 0) : column // 2 + 2] = NEUTRAL


class _Sound:
    """The audio stream, resampled to a rate of `AAC_RATES`."""

    def __init__(self, container: Any, waveform: Array, sample_rate: int) -> None:
        self.container = container
        self.sample_rate = sample_rate
        self.waveform = waveform.reshape(len(waveform), -1)
        self.layout = "mono" if self.waveform.shape[1] == 1 else "stereo"
        rate = next((rate for rate in AAC_RATES if rate >= sample_rate), AAC_RATES[-1])
        self.stream = container.add_stream("aac", rate=rate, layout=self.layout)
        self.stream.bit_rate = 5 * rate * self.waveform.shape[1]  # AAC allows at most 6 bits a sample

    def encode(self) -> None:
        from av import AudioFrame, AudioResampler

        frame = AudioFrame.from_ndarray(self.waveform.reshape(1, -1), format="s16", layout=self.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.sample_rate, 0, Fraction(1, self.sample_rate)
        resampler = AudioResampler("fltp", self.layout, self.stream.rate, frame_size=1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            self.container.mux(self.stream.encode(piece))
        self.container.mux(self.stream.encode(None))


def _still(pictures: Sequence[Array], captions: Sequence[str], note: str) -> tuple[Array, int]:
    """Stack pictures and captions: (h, w, 3) with h and w even, and the number of rows that are pictures."""
    from PIL import Image

    resized = list(_resize(pictures))
    width, height = resized[0].width, sum(picture.height for picture in resized)
    height += height % 2
    below = draw_captions(captions, note, width) if captions or note else Image.new("RGB", (width, 0))
    still = Image.new("RGB", (width, height + below.height), BACKGROUND)
    top = 0
    for picture in resized:
        still.paste(picture, (0, top))
        top += picture.height
    still.paste(below, (0, height))
    return np.asarray(still), height


def _resize(pictures: Sequence[Array]) -> Iterator[Any]:
    """Convert pictures to RGB of one even width between `NARROWEST` and `WIDEST`."""
    from PIL import Image

    columns = pictures[0].shape[1]
    zoom = max(1, math.ceil(NARROWEST / columns))
    width = min(columns * zoom, WIDEST)
    width += width % 2
    for pixels in pictures:
        picture = Image.fromarray(pixels).convert("RGB")
        height = max(2, pixels.shape[0] * zoom)
        yield picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)
