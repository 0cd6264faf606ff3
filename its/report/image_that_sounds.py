"""Samples for Python programs and notebooks: picture, sound and settings, with a method to save them."""

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
"""Attribute of the result that an extra file requires."""


class SampleFailed(RuntimeError):
    """Raised if a sample could not be made; the message is the reason."""


class Audio(NamedTuple):
    """Sound with its sample rate.

    Attributes:
        samples: (n,) or in stereo (2, n), float32 in [-1, 1].
        rate: sample rate in Hz.
    """

    samples: np.ndarray[Any, np.dtype[np.float32]]
    rate: int


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ImageThatSounds:
    """Finished or failed sample. Notebooks show it with a player.

    Attributes:
        sample: sample of the method.
        record: content of `sample.json` without the outcome.
        metadata: whether saved files include the metadata for `its rerun`.
    """

    sample: Sample
    record: Mapping[str, Any]
    metadata: bool = True

    @property
    def result(self) -> Result:
        """Tensors of the sample.

        Raises:
            SampleFailed: the sample could not be made.
        """
        if self.sample.result is None:
            raise SampleFailed(f"{self.id}: {self.sample.error}")
        return self.sample.result

    @property
    def id(self) -> str:
        """Name of the sample: see `its.specs.spec.sample_id`."""
        return self.sample.spec.id

    @property
    def error(self) -> str | None:
        """Reason why the sample could not be made, or None. If set, properties with results raise `SampleFailed`."""
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
        """Settings that affect the sample, other than prompts, seed and weights."""
        settings: Mapping[str, Any] = self.record["settings"]
        return settings

    @property
    def weights(self) -> Mapping[str, Any]:
        """Provenance of the weights by component key; `embedded` is true for weights of an embedded pack."""
        weights: Mapping[str, Any] = self.record["weights"]
        return weights

    @cached_property
    def image(self) -> Image:
        """Spectrogram in 8 bits, highest frequencies at the top, as in `spectrogram.png`."""
        from PIL.Image import fromarray

        return fromarray(eight_bit(self.result.spectrogram))

    @cached_property
    def color(self) -> Image | None:
        """Colour picture; None without a colorizer."""
        from PIL.Image import fromarray

        return None if self.result.color is None else fromarray(eight_bit(self.result.color))

    @property
    def spectrogram(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Spectrogram (h, w), float32 in [0, 1], row 0 the highest band; in stereo (3, h, w)."""
        return self.result.spectrogram.numpy()

    @property
    def audio(self) -> Audio:
        """Sound of the spectrogram, as (samples, rate)."""
        return Audio(self.result.waveform.numpy(), self.result.sample_rate)

    @property
    def latents(self) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        """Clean latents (c, h, w), untrimmed; None if the method has none."""
        return None if self.result.latents is None else self.result.latents.numpy()

    def save(self, folder: str | Path, extras: Sequence[str] = ()) -> Path:
        """Write the files of a sample like `its predict`. Existing files are replaced.

        Folders of the form `RUN/samples/ID` make a run directory, which all commands read.

        Args:
            folder: folder of the sample; created if it is missing.
            extras: additional files: image, latents, color, colormap, cycle, video.

        Returns:
            Path of the folder.

        Raises:
            SampleFailed: the sample could not be made.
            ValueError: an extra is unknown, or the sample has no data for it.
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
        """Return HTML with the picture, a playhead and the sound, for notebooks."""
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
