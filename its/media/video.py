"""A sample as a video: a line moves over the picture in time with the sound.

Shapes used here: h w rows and columns of a picture, n samples of sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from its.media.atomic import NotWritten, atomic
from its.media.captions import BACKGROUND, strip

Array = np.ndarray[Any, np.dtype[Any]]

FPS = 30
NARROWEST, WIDEST = 480, 1920
"""Columns of a video in pixels: smaller pictures are enlarged, so that captions fit; longer ones are squeezed."""

AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""In Hz. Those below 16 kHz are not played everywhere; sound of another rate is resampled to the next one above."""

WHITE, BLACK, NEUTRAL = 235, 16, 128
"""In 8-bit YUV of limited range."""


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
    """Write an MP4 (H.264, AAC) that plays in browsers. It appears whole or not at all.

    Args:
        path: where to.
        pictures: (h, w) or (h, w, 3), 0 to 255, all of one width, that last as long as the sound; stacked.
        waveform: (n,) or (n, 2), 16-bit.
        sample_rate: in Hz.
        captions: lines under the pictures.
        note: a dimmer line under those.
        comment: goes into the file's metadata.

    Raises:
        NotWritten: it can't be written.
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
    """The pixel column of the line in a frame: where the sound is when the frame appears."""
    return min(int(frame / FPS / seconds * width), width - 1)


class _Picture:
    """The stream of pictures: one still, and a line that is drawn into each copy of it."""

    def __init__(self, container: Any, still: Array) -> None:
        from av import VideoFrame

        self.container = container
        height, width = still.shape[:2]
        self.width = width
        # Stills compress to nothing, whatever the preset; CRF 18 keeps the fine strokes of spectrograms.
        self.stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "18"})
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.thread_count = 1  # more threads cost more than they gain, and would take cores from the sampling
        frame = VideoFrame.from_ndarray(still, format="rgb24").reformat(format="yuv420p")
        self.planes = frame.to_ndarray()  # (3/2 h, w): luma, then both chromas at half the size
        self.rows = height

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
        """A white line with black edges, seen on any picture, over the upper `height` rows."""
        planes[:height, max(column - 2, 0) : column + 3] = BLACK
        planes[:height, max(column - 1, 0) : column + 2] = WHITE
        half = self.width // 2
        colors = planes[self.rows :].reshape(2, self.rows // 2, half)
        colors[:, : height // 2, max(column // 2 - 1, 0) : column // 2 + 2] = NEUTRAL


class _Sound:
    """The stream of sound, at a rate that AAC has."""

    def __init__(self, container: Any, waveform: Array, sample_rate: int) -> None:
        self.container = container
        self.sample_rate = sample_rate
        self.waveform = waveform.reshape(len(waveform), -1)
        self.layout = "mono" if self.waveform.shape[1] == 1 else "stereo"
        rate = next((rate for rate in AAC_RATES if rate >= sample_rate), AAC_RATES[-1])
        self.stream = container.add_stream("aac", rate=rate, layout=self.layout)
        self.stream.bit_rate = 5 * rate * self.waveform.shape[1]  # AAC can take 6 bits a sample at most

    def encode(self) -> None:
        from av import AudioFrame, AudioResampler

        frame = AudioFrame.from_ndarray(self.waveform.reshape(1, -1), format="s16", layout=self.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.sample_rate, 0, Fraction(1, self.sample_rate)
        resampler = AudioResampler("fltp", self.layout, self.stream.rate, frame_size=1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            self.container.mux(self.stream.encode(piece))
        self.container.mux(self.stream.encode(None))


def _still(pictures: Sequence[Array], captions: Sequence[str], note: str) -> tuple[Array, int]:
    """All that does not move, (h, w, 3) with h and w even, and how many rows of it are pictures."""
    from PIL import Image

    shown = list(_sized(pictures))
    width, height = shown[0].width, sum(picture.height for picture in shown)
    height += height % 2
    below = strip(captions, note, width) if captions or note else Image.new("RGB", (width, 0))
    still = Image.new("RGB", (width, height + below.height), BACKGROUND)
    top = 0
    for picture in shown:
        still.paste(picture, (0, top))
        top += picture.height
    still.paste(below, (0, height))
    return np.asarray(still), height


def _sized(pictures: Sequence[Array]) -> Iterator[Any]:
    """Pictures in RGB, of one even width between the limits."""
    from PIL import Image

    columns = pictures[0].shape[1]
    zoom = max(1, math.ceil(NARROWEST / columns))
    width = min(columns * zoom, WIDEST)
    width += width % 2
    for pixels in pictures:
        picture = Image.fromarray(pixels).convert("RGB")
        height = max(2, pixels.shape[0] * zoom)
        yield picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)
