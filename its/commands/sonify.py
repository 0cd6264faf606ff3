"""The command `its sonify`."""

from __future__ import annotations

from pathlib import Path

from its.errors import UserError
from its.output import say


def sonify(
    image: Path,
    *,
    output: Path | None = None,
    duration: float | None = None,
    contrast: float = 1.0,
    invert: bool = False,
    video: bool = False,
    iterations: int = 32,
    format: str = "Auffusion",
    f_min: float | None = None,
    f_max: float | None = None,
    overwrite: bool = False,
) -> int:
    """Play any picture as a spectrogram.

    The sound is computed by Griffin-Lim, without a model. Columns are time, rows are frequencies, and light pixels are
    loud (in Riffusion's format, dark pixels).

    Args:
        image: any picture.
        output: WAV file (default: the picture's name, in the current folder).
        duration: seconds of sound (default: by the picture's proportions).
        contrast: factor of the contrast; above 1, dim areas become silent.
        invert: exchange loud and silent.
        video: also write an MP4 file, in which a line moves over the picture.
        iterations: iterations of Griffin-Lim.
        format: expert whose spectrogram format is used.
        f_min: frequency of the lowest row in Hz (default: the format's).
        f_max: frequency of the highest row in Hz (default: the format's).
        overwrite: replace existing files.

    Raises:
        UserError: the picture or an option is invalid; nothing was written.
    """
    from its.engine.sonify import as_spectrogram, check_free, check_seconds, find_format, play, target
    from its.media.encode import write_wav
    from its.media.pictures import read_picture
    from its.media.video import write_video
    from its.runs.sample_files import eight_bit, sixteen_bit

    form = find_format(format, f_min=f_min, f_max=f_max)
    if duration is not None:
        check_seconds("--duration", duration)
    if not 0 < contrast <= 100:
        raise UserError(f"--contrast is {contrast:g}; expected more than 0 and at most 100")
    if not 1 <= iterations <= 10_000:
        raise UserError(f"--iterations is {iterations}; expected 1 to 10000")
    sound = target(output, image, ".wav", overwrite=overwrite)
    if video:
        check_free(sound.with_suffix(".mp4"), overwrite=overwrite)
    picture = read_picture(image, background=abs(form.silence - invert))  # transparent pixels are silent
    spectrogram = as_spectrogram(picture, form, seconds=duration, contrast=contrast, invert=invert)
    waveform = play(spectrogram, form, iterations=iterations)
    pcm = sixteen_bit(waveform)
    write_wav(sound, pcm, form.sample_rate)
    if video:
        frame = eight_bit(spectrogram[0].squeeze(0))
        write_video(sound.with_suffix(".mp4"), [frame], pcm, form.sample_rate, captions=[image.name])
    say(f"{sound}: {waveform.shape[-1] / form.sample_rate:.2f} s, {form.f_min:g} to {form.f_max:g} Hz")
    return 0
