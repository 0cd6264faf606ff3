"""Multimodal score distillation: optimise one image with the gradients of several experts (Eq. 7 of the paper).

Shapes used here: b crops, c channels, h w rows and columns of latents, H W of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from its.diffusion.sampling import Estimator
from its.errors import UserError
from its.interfaces import LatentCodec
from its.methods.score_distillation.implicit_image import ImplicitImage

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SDSGuidance:
    """Weight, start and random crops of one expert. The default is the full image without crops.

    Attributes:
        weight: lambda of Eq. 7.
        begin: first iteration with this expert.
        crops: number of random crops in each iteration, over which the gradient is averaged.
        crop: rows and columns of a crop; null for the canvas.
        resize: rows and columns to which crops are resized; null for none.
    """

    weight: float = 1.0
    begin: int = 0
    crops: int = 1
    crop: Size | None = None
    resize: Size | None = None

    def check(self, key: str, canvas: Size) -> None:
        """Raises UserError: a value is out of range for this canvas; the message begins with the key."""
        if self.crops < 1 or self.begin < 0:
            values = f"crops is {self.crops} and begin {self.begin}"
            raise UserError(f"{key}: {values}; expected crops of at least 1 and begin of at least 0")
        if self.crop is not None and not all(1 <= n <= limit for n, limit in zip(self.crop, canvas, strict=True)):
            raise UserError(f"{key}: crop is {list(self.crop)}; expected [1, 1] to the canvas, {list(canvas)}")
        if self.resize is not None and min(self.resize) < 1:
            raise UserError(f"{key}: resize is {list(self.resize)}; expected rows and columns of at least 1")

    def input_size(self, canvas: Size) -> Size:
        """Return rows and columns of the expert's input."""
        return self.resize or self.crop or canvas

    def random_crops(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Crop an image (1, 1, H, W) at random positions to (b, 3, rows, columns). Differentiable."""
        size = self.crop or image.shape[2:]
        crops = []
        for _ in range(self.crops):
            top, left = (
                int(torch.randint(length - n + 1, (), generator=generator, device="cpu"))
                for length, n in zip(image.shape[2:], size, strict=True)
            )
            crops.append(image[:, :, top : top + size[0], left : left + size[1]])
        batch = torch.cat(crops).expand(-1, 3, -1, -1)
        if self.resize is None:
            return batch
        return functional.interpolate(batch, self.resize, mode="bilinear", antialias=True)


@dataclass(frozen=True, kw_only=True)
class SDSTarget:
    """Expert with its codec, noise schedule and guidance. Experts may differ in latent space and noise schedule.

    Attributes:
        guide: weight and crops.
        codec: encodes crops, differentiably.
        expert: guided noise estimator eps_m(z_t, t) for a batch of `guide.crops`.
        alphas: noise schedule alpha_t, (T,).
        timesteps: first and last t to draw.
    """

    guide: SDSGuidance
    codec: LatentCodec
    expert: Estimator
    alphas: Tensor
    timesteps: tuple[int, int]

    def noise_residual(self, z: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        """Noise clean latents z (b, c, h, w) and return eps_m(z_t, t) - eps, without gradient, and alpha_t.

        All crops have the same t and different noise, drawn from the CPU generator.
        """
        first, last = self.timesteps
        t = torch.randint(first, last + 1, (), generator=generator, device="cpu")
        eps = torch.randn(z.shape, generator=generator, dtype=torch.float32, device="cpu").to(z)
        alpha = float(self.alphas[t])
        with torch.no_grad():
            z_t = alpha**0.5 * z + (1 - alpha) ** 0.5 * eps
            return self.expert(z_t, t.to(z.device).expand(len(z))) - eps, alpha


@dataclass(kw_only=True)
class Optimisation:
    """State of an optimisation, as saved in checkpoints.

    Attributes:
        image: x = g(theta).
        optimizer: optimizer of theta.
        generator: CPU generator of timesteps, noise and crop positions.
        done: number of completed iterations.
    """

    image: ImplicitImage
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    done: int = 0


def distil(
    state: Optimisation,
    *,
    targets: Sequence[SDSTarget],
    iterations: int,
    on_iteration: Callable[[Optimisation], None] | None = None,
) -> None:
    """Run the remaining iterations of an optimisation in place, with the gradient of Eq. 7.

    Args:
        state: state of the optimisation.
        targets: experts, at least one of which begins at iteration 0.
        iterations: total number of iterations.
        on_iteration: called after each iteration, for progress and checkpoints.
    """
    state.image.train()
    while state.done < iterations:
        x = state.image()
        latents, gradients = [], []
        for target in targets:
            if state.done >= target.guide.begin:
                z = target.codec.encode(target.guide.random_crops(x, state.generator))
                residual, alpha = target.noise_residual(z, state.generator)
                w = 1 - alpha  # w(t) = sigma_t^2, as in DreamFusion
                latents.append(z)
                gradients.append(target.guide.weight * w * residual / len(z))
        state.optimizer.zero_grad()
        torch.autograd.backward(latents, gradients)  # through dz/dx and dx/dtheta, but not through the experts
        state.optimizer.step()
        state.done += 1
        if on_iteration is not None:
            on_iteration(state)


@torch.no_grad()
def denoising_errors(image: Tensor, targets: Mapping[str, SDSTarget], *, probes: int, seed: int) -> dict[str, float]:
    """Compute each expert's denoising error of an image: the mean of (eps_m(z_t, t) - eps)^2 over latent values.

    Crops, timesteps and noise depend on the seed alone, so that the errors of two images are comparable.

    Args:
        image: x, (1, 1, H, W) in [0, 1].
        targets: experts by name.
        probes: number of (t, eps) to average over, for each expert.
        seed: seed of the probes.
    """
    errors = {}
    for name, target in targets.items():
        generator = torch.Generator("cpu").manual_seed(seed)
        squares = []
        for _ in range(probes):
            z = target.codec.encode(target.guide.random_crops(image, generator))
            squares.append(float(target.noise_residual(z, generator)[0].square().mean()))
        errors[name] = sum(squares) / probes
    return errors
