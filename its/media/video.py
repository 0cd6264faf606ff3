"""Write videos in which a line moves over a picture in time with the sound.

Shapes used here: h rows and w columns of a picture, n audio samples.
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
"""Minimum and maximum width of a video in pixels; captions need the minimum. Pictures are resized accordingly."""

AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates in Hz that all players support. Sound with another rate is resampled to the next higher one."""

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
        path: path of the file.
        pictures: pictures to stack vertically; (h, w) or (h, w, 3) from 0 to 255, all of one width.
        waveform: 16-bit sound (n,) or (n, 2), as long as the video.
        sample_rate: sample rate in Hz.
        captions: lines below the pictures.
        note: a dimmer line below the captions.
        comment: metadata, or None.

    Raises:
        NotWritten: the file can't be written.
    """
    import av

    still, height = _still(pictures, captions, note)
    try:
        options = {"movflags": "faststart"}
        with atomic(path) as partial, av.open(str(partial), "w", format="mp4", options=options) as container:
            if comment is not None:
                container.metadata["comment"] = comment
            # Stills compress well with any preset; CRF 18 keeps the fine strokes of spectrograms.
            video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "18"})
            (video.height, video.width), video.pix_fmt = still.shape[:2], "yuv420p"
            video.thread_count = 1  # more threads are not faster, and take cores from the sampling
            audio = _add_audio_stream(container, waveform, sample_rate)
            _encode_sound(container, audio, waveform, sample_rate)
            _encode_picture(container, video, still, height=height, seconds=len(waveform) / sample_rate)
    except av.FFmpegError as error:
        raise NotWritten(error.errno, error.strerror, str(path)) from None


def line_column(frame: int, *, width: int, seconds: float) -> int:
    """Return the pixel column of the line in a frame, at the position in the sound when the frame appears."""
    return min(int(frame / FPS / seconds * width), width - 1)


def _encode_picture(container: Any, stream: Any, still: Array, *, height: int, seconds: float) -> None:
    """Encode a still picture, with the line drawn into the upper `height` rows of each frame."""
    from av import VideoFrame

    planes = VideoFrame.from_ndarray(still, format="rgb24").reformat(format="yuv420p").to_ndarray()
    for number in range(max(1, math.ceil(round(seconds * FPS, 6)))):
        column = line_column(number, width=still.shape[1], seconds=seconds)
        frame = VideoFrame.from_ndarray(_with_line(planes, column, height), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _with_line(planes: Array, column: int, height: int) -> Array:
    """Draw a white line with black edges, visible on any picture, into a copy of (3/2 h, w) YUV 4:2:0 planes."""
    planes = planes.copy()
    planes[:height, max(column - 2, 0) : column + 3] = BLACK
    planes[:height, max(column - 1, 0) : column + 2] = WHITE
    rows = planes.shape[0] * 2 // 3
    chroma = planes[rows:].reshape(2, rows // 2, -1)  # both planes have half the size of the luma above them
    chroma[:, : height // 2, max(column // 2 - 1, 0) : column // 2 + 2] = NEUTRAL
    return planes


def _add_audio_stream(container: Any, waveform: Array, sample_rate: int) -> Any:
    rate = next((rate for rate in AAC_RATES if rate >= sample_rate), AAC_RATES[-1])
    channels = waveform.reshape(len(waveform), -1).shape[1]
    stream = container.add_stream("aac", rate=rate, layout="mono" if channels == 1 else "stereo")
    stream.bit_rate = 5 * rate * channels  # AAC allows at most 6 bits a sample
    return stream


def _encode_sound(container: Any, stream: Any, waveform: Array, sample_rate: int) -> None:
    from av import AudioFrame, AudioResampler

    frame = AudioFrame.from_ndarray(waveform.reshape(1, -1), format="s16", layout=stream.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
    resampler = AudioResampler("fltp", stream.layout.name, stream.rate, frame_size=1024)
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def _still(pictures: Sequence[Array], captions: Sequence[str], note: str) -> tuple[Array, int]:
    """Stack pictures and captions to (h, w, 3) with even h and w; also return the number of rows of the pictures."""
    from PIL import Image

    resized = list(_resize(pictures))
    width, height = resized[0].width, sum(picture.height for picture in resized)
    height += height % 2
    text = draw_captions(captions, note, width) if captions or note else Image.new("RGB", (width, 0))
    still = Image.new("RGB", (width, height + text.height), BACKGROUND)
    top = 0
    for picture in resized:
        still.paste(picture, (0, top))
        top += picture.height
    still.paste(text, (0, height))
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
