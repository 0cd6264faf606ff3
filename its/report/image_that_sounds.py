"""A finished sample in Python: picture, sound and settings, which it can save and show in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from its.errors import UserError
from its.media.atomic import make_folder
from its.media.encode import png_bytes, wav_bytes
from its.methods.sample import Result, Sample
from its.report.notebook import sample_html
from its.runs.sample_files import EXTRAS, eight_bit, sixteen_bit, write_sample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


_NEEDS = {"color": "color", "latents": "latents", "cycle": "format"}
"""Extra file -> attribute of the result that it needs."""


class SampleFailed(RuntimeError):
    """A sample could not be made; the message is the reason."""


class Audio(NamedTuple):
    """A sound.

    Attributes:
        samples: (n,) or in stereo (2, n), float32 in [-1, 1].
        rate: samples per second.
    """

    samples: np.ndarray[Any, np.dtype[np.float32]]
    rate: int


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ImageThatSounds:
    """A sample: one array that is seen as a picture and heard as a sound. A notebook shows it with a player.

    Attributes:
        sample: as the method made it.
        record: the content of its `sample.json`, but for the status.
        metadata: whether saved files say how they were made.
    """

    sample: Sample
    record: Mapping[str, Any]
    metadata: bool = True

    @property
    def result(self) -> Result:
        """The sample's tensors.

        Raises:
            SampleFailed: it could not be made.
        """
        if self.sample.result is None:
            raise SampleFailed(f"{self.id}: {self.sample.error}")
        return self.sample.result

    @property
    def id(self) -> str:
        """Slug of the prompts, seed, and a digest of everything that defines the sample."""
        return self.sample.spec.id

    @property
    def error(self) -> str | None:
        """Why the sample could not be made; None for a whole one. The properties below raise `SampleFailed` then."""
        return self.sample.error

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompts by expert."""
        return self.sample.spec.prompts

    @property
    def seed(self) -> int:
        """Seed of the sample's noise."""
        return self.sample.spec.seed

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that the sample depends on besides prompts, seed and weights."""
        settings: Mapping[str, Any] = self.record["settings"]
        return settings

    @property
    def weights(self) -> Mapping[str, Any]:
        """Which weights made the sample, by component; `embedded` is true for those of the embedded pack."""
        weights: Mapping[str, Any] = self.record["weights"]
        return weights

    @cached_property
    def image(self) -> Image:
        """The picture: the spectrogram in 8 bits, highest frequencies at the top, as in `spectrogram.png`."""
        from PIL.Image import fromarray

        return fromarray(eight_bit(self.result.spectrogram))

    @cached_property
    def color(self) -> Image | None:
        """The picture in colour; None without a colorizer."""
        from PIL.Image import fromarray

        return None if self.result.color is None else fromarray(eight_bit(self.result.color))

    @property
    def spectrogram(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The array that is seen and heard: (h, w) float32 in [0, 1], row 0 the highest band; in stereo (3, h, w)."""
        return self.result.spectrogram.numpy()

    @property
    def audio(self) -> Audio:
        """The sound, as (samples, rate)."""
        return Audio(self.result.waveform.numpy(), self.result.sample_rate)

    @property
    def latents(self) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        """Clean latents (c, h, w), untrimmed; None if the method has none."""
        return None if self.result.latents is None else self.result.latents.numpy()

    def save(self, folder: str | Path, extras: Sequence[str] = ()) -> Path:
        """Write the files that `its predict` writes for a sample, `sample.json` last; existing ones are replaced.

        Folders of the form `RUN/samples/ID` make a run directory, which all commands read.

        Args:
            folder: made if it is missing.
            extras: more files: image, latents, color, colormap, cycle, video.

        Returns:
            The folder.

        Raises:
            SampleFailed: the sample could not be made.
            ValueError: an extra is unknown, or the sample lacks what it shows.
            its.errors.UserError: the folder can't be written to.
        """
        result = self.result
        extras = [extras] if isinstance(extras, str) else extras
        if not str(folder).strip():
            raise UserError("the folder's name is empty")
        for extra in extras:
            if extra not in EXTRAS:
                raise ValueError(f"extras has {extra!r}; expected some of {', '.join(EXTRAS)}")
            if getattr(result, _NEEDS.get(extra, "picture")) is None:
                raise ValueError(f"extras has {extra!r}, but this sample has none")
        path = Path(folder).expanduser()
        make_folder(path.parent)
        path = path.parent.resolve() / path.name  # the writer follows no links, but the user may
        write_sample(path, self.sample, self.record, list(extras), metadata=self.metadata)
        return path

    def __repr__(self) -> str:
        prompts = ", ".join(f"{name}={prompt!r}" for name, prompt in self.prompts.items())
        return f"ImageThatSounds({prompts}, seed={self.seed}{'' if self.error is None else f', error={self.error!r}'})"

    def _repr_html_(self) -> str | None:
        """A picture with a playhead and its sound, for notebooks."""
        if self.error is not None:
            return None
        samples, rate = self.audio
        embedded = any(weights and weights.get("embedded") for weights in self.weights.values())
        names = sorted({str(weights["name"]) for weights in self.weights.values() if weights})
        return sample_html(
            png=png_bytes(eight_bit(self.result.spectrogram)),
            size=self.image.size,
            wav=wav_bytes(sixteen_bit(self.result.waveform), rate),
            seconds=samples.shape[-1] / rate,
            title=" · ".join(self.prompts.values()),
            facts=f"seed {self.seed} · {'embedded demo weights: ' if embedded else ''}{', '.join(names)}",
        )
