"""Initial latents: noise of the seeds, and pictures or sounds to start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from its.diffusion.kept_region import KeptRegion
from its.diffusion.noise import generators, initial_noise
from its.errors import UserError
from its.interfaces import Scheduler
from its.methods.conditioning import transition_noise
from its.methods.decoder import Decoder, encode
from its.methods.media_cache import MediaCache
from its.methods.post_process import PostProcess
from its.specs.media import MediaPrompt, picture_size, read_mask, read_picture, read_sound
from its.specs.spec import SampleSpec
from its.specs.sweep import Process


class Starts:
    """Makes the initial latents of specs, and keeps the regions of their masks.

    Args:
        decoder: codecs of pictures and sounds.
        post_process: vocoder, canvas and trim. Pictures are placed before the columns that are cut later.
        noise_dtype: dtype in which noise is drawn.
    """

    def __init__(self, decoder: Decoder, post_process: PostProcess, *, noise_dtype: torch.dtype) -> None:
        self.decoder = decoder
        self.noise_dtype = noise_dtype
        self.vocoder, self.canvas, self.trim = post_process.vocoder, post_process.canvas, post_process.trim
        self.cached = MediaCache()

    def check(self, spec: SampleSpec) -> None:
        """Check that the mask has the size of the start, and keeps something.

        Raises:
            UserError: it does not.
        """
        start, mask = spec.material.start, spec.material.keep
        if start is None or mask is None:
            return
        sizes = [self.canvas, (self.canvas[0], self.canvas[1] - self.trim)]
        if start.file.kind == "image":
            sizes = [picture_size(start.file)]
        if (size := picture_size(mask)) not in sizes:
            expected = " or ".join(f"{columns} x {rows}" for rows, columns in dict.fromkeys(sizes))
            raise UserError(
                f"{spec.source}: keep: the mask {mask.path} has {size[1]} x {size[0]} pixels; expected the size of the "
                f"start's picture, {expected}"
            )
        if not self._mask(mask).any():
            raise UserError(
                f"{spec.source}: keep: the mask {mask.path} has no light pixel; expected white where the start is kept"
            )

    def clear(self) -> None:
        """Remove all encoded files, after a change of the weights' precision."""
        self.cached.clear()

    def first_latents(
        self, specs: Sequence[SampleSpec], process: Process, first: int, device: torch.device
    ) -> tuple[list[torch.Generator], Tensor]:
        """Return each spec's generator, and the latents before step `first` of the process, (b, c, h, w)."""
        sources, noise = self.noise(specs)
        noise, kept = noise.to(device), any(spec.material.keep is not None for spec in specs)
        if first == 0 and not kept:
            return sources, noise
        clean = self.latents(specs, device)
        if first == process.steps:
            return sources, clean
        noised = process.scheduler.plan(process.steps).add_noise(clean, noise, first)
        if first == 0:
            noised = noise.where(self.masks(specs, device) == 0, noised)
        return sources, noised

    def keep_regions(self, specs: Sequence[SampleSpec], scheduler: Scheduler, device: torch.device) -> Scheduler:
        """Wrap the scheduler to keep the regions of the specs' masks, if any has one."""
        if all(spec.material.keep is None for spec in specs):
            return scheduler
        clean, noise, mask = self.latents(specs, device), self.noise(specs)[1].to(device), self.masks(specs, device)
        return KeptRegion(scheduler, clean=clean, noise=noise, mask=mask)

    def noise(self, specs: Sequence[SampleSpec]) -> tuple[list[torch.Generator], Tensor]:
        """Create a generator for each spec, and draw z_T from it, (b, c, h, w) on the CPU."""
        shape = self.decoder.sound.latent_shape(self.canvas)
        sources = generators([spec.seed for spec in specs])
        noise = initial_noise(sources, shape, dtype=self.noise_dtype)
        if any(spec.transition is not None for spec in specs):
            seeds = [None if spec.transition is None else spec.transition.seed for spec in specs]
            ends = generators([spec.seed if seed is None else seed for spec, seed in zip(specs, seeds, strict=True)])
            end = initial_noise(ends, shape, dtype=self.noise_dtype)
            noise = transition_noise(specs, noise, end, loop=self.decoder.loop)
        return sources, noise

    def latents(self, specs: Sequence[SampleSpec], device: torch.device) -> Tensor:
        """Return the clean latents (b, c, h, w) of the specs' starts; zeros for specs without one."""
        shape = self.decoder.sound.latent_shape(self.canvas)
        starts = [spec.material.start for spec in specs]
        empty = torch.zeros(shape, device=device)
        return torch.stack([empty if start is None else self._encode(start.file, device) for start in starts])

    def masks(self, specs: Sequence[SampleSpec], device: torch.device) -> Tensor:
        """Return 1 for the latents (b, 1, h, w) that contain a pixel to keep, and 0 for the others."""
        _, *size = self.decoder.sound.latent_shape(self.canvas)
        files = [spec.material.keep for spec in specs]
        masks = [torch.zeros(1, *self.canvas) if file is None else self._mask(file) for file in files]
        return functional.adaptive_max_pool2d(torch.stack(masks), size).to(device)

    def _mask(self, file: MediaPrompt) -> Tensor:
        return self.cached(f"mask {file.sha256}", lambda: read_mask(file, self.canvas, trim=self.trim))

    def _encode(self, file: MediaPrompt, device: torch.device) -> Tensor:
        return self.cached(f"{file.kind} {file.sha256}", lambda: self._read_and_encode(file, device))

    def _read_and_encode(self, file: MediaPrompt, device: torch.device) -> Tensor:
        """Encode a file to (c, h, w). A picture becomes gray, unless colours are the channels of a stereo sound."""
        form = self.vocoder.format
        if file.kind == "image":
            codec = self.decoder.picture
            picture = read_picture(file, self.canvas, trim=self.trim, background=form.silence)
            picture = picture.mean(0, keepdim=True).expand(3, -1, -1) if form.channels == 1 else picture
        else:
            codec, picture = self.decoder.sound, read_sound(file, form, self.canvas[1])
        return encode(codec, picture[None].to(device), loop=self.decoder.loop)[0]
