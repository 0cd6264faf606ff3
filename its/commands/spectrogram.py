"""The command `its spectrogram`."""

from __future__ import annotations

from pathlib import Path

from its.output import say


def spectrogram(
    audio: Path,
    *,
    output: Path | None = None,
    start: float = 0.0,
    duration: float | None = None,
    format: str = "Auffusion",
    f_min: float | None = None,
    f_max: float | None = None,
    overwrite: bool = False,
) -> int:
    """Draw the spectrogram of any sound.

    The spectrogram has the format of an expert, and its sonify converts it back to sound.

    Args:
        audio: WAV, FLAC, OGG or MP3 file, or another format of libsndfile.
        output: PNG file (default: the name of the sound with .spectrogram.png, in the current folder).
        start: seconds to skip.
        duration: seconds to draw (default: all, up to 60).
        format: expert whose spectrogram format is used.
        f_min: frequency of the lowest row in Hz (default: the format's).
        f_max: frequency of the highest row in Hz (default: the format's).
        overwrite: replace an existing file.

    Raises:
        UserError: the sound or an option is invalid; nothing was written.
    """
    from its.engine.sonify import draw, find_format, read_sound, target
    from its.media.encode import write_png
    from its.runs.sample_files import eight_bit

    form = find_format(format, f_min=f_min, f_max=f_max)
    path = target(output, audio, ".spectrogram.png", overwrite=overwrite)
    waveform, rate = read_sound(audio, start=start, seconds=duration)
    picture = draw(waveform, rate, form)
    write_png(path, eight_bit(picture[0].squeeze(0)))
    rows, columns = picture.shape[-2:]
    say(f"{path}: {columns} x {rows}, {columns * form.hop_length / form.sample_rate:.2f} s")
    return 0
