"""Multimodal score distillation: one image optimised until several experts find it likely (Eq. 7 of the paper).

Shapes used here: b views, c channels, h w rows and columns of latents, H W of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from its.diffusion.sampling import Estimator
from its.interfaces import LatentCodec
from its.methods.score_distillation.implicit_image import ImplicitImage

Canvas = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SDSGuidance:
    """How an expert looks at the image, and how much its opinion counts. The default is the whole of it.

    Attributes:
        weight: lambda of Eq. 7.
        begin: iteration from which it takes part.
        crops: views at random places in each iteration, over which the gradient is averaged.
        crop: rows and columns of a view; null: the canvas.
        resize: what views are scaled to; null: as they are.
    """

    weight: float = 1.0
    begin: int = 0
    crops: int = 1
    crop: Canvas | None = None
    resize: Canvas | None = None

    def misfit(self, canvas: Canvas) -> str | None:
        """Why this makes no sense on a canvas; None if it does."""
        if self.crops < 1 or self.begin < 0:
            return f"crops is {self.crops} and begin {self.begin}; expected at least 1 and at least 0"
        if self.crop is not None and not all(1 <= n <= whole for n, whole in zip(self.crop, canvas, strict=True)):
            return f"crop is {list(self.crop)}, which does not fit into the canvas {list(canvas)}"
        if self.resize is not None and min(self.resize) < 1:
            return f"resize is {list(self.resize)}; expected rows and columns"
        return None

    def view(self, canvas: Canvas) -> Canvas:
        """Rows and columns of what the expert gets to see of a canvas."""
        return self.resize or self.crop or canvas

    def random_crops(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """x (1, 1, H, W) -> views (b, 3, h, w) of it, differentiable, at places drawn from the generator."""
        height, width = self.crop or image.shape[2:]
        views = []
        for _ in range(self.crops):
            top, left = (
                int(torch.randint(whole - part + 1, (), generator=generator, device="cpu"))
                for whole, part in zip(image.shape[2:], (height, width), strict=True)
            )
            views.append(image[:, :, top : top + height, left : left + width])
        seen = torch.cat(views).expand(-1, 3, -1, -1)
        if self.resize is None:
            return seen
        return functional.interpolate(seen, self.resize, mode="bilinear", antialias=True)


@dataclass(frozen=True, kw_only=True)
class SDSTarget:
    """An expert with all that its opinion of an image takes. Experts may differ in latent space and noise schedule.

    Attributes:
        guide: how it looks, and its weight.
        codec: encodes what it sees, differentiably.
        expert: guided noise estimates eps_m(z_t, t), for a batch of `guide.crops`.
        alphas: (T,) alpha_t of its noise schedule.
        timesteps: the first and the last t that are drawn.
    """

    guide: SDSGuidance
    codec: LatentCodec
    expert: Estimator
    alphas: Tensor
    timesteps: tuple[int, int]

    def encode(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """x (1, 1, H, W) -> clean latents z (b, c, h, w) of its views, differentiable."""
        return self.codec.encode(self.guide.random_crops(image, generator))

    def noise_residual(self, z: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        """Clean latents z (b, c, h, w) -> eps_m(z_t, t) - eps, without gradient, and alpha_t.

        One t for all views, noise for each, both drawn from the generator, on the CPU.
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
    """Everything that changes while an image is optimised, and nothing else: what a checkpoint holds.

    Attributes:
        image: x = g(theta).
        optimizer: of theta.
        generator: of timesteps, noise and places of views, on the CPU.
        done: iterations that were made.
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
    after_each: Callable[[Optimisation], None] | None = None,
) -> None:
    """Optimise an image in place, from where it is to the last iteration, with the gradient of Eq. 7.

    Args:
        state: where the optimisation is.
        targets: at least one of whom takes part from the beginning.
        iterations: how many there are in all.
        after_each: called after each iteration, for progress and checkpoints.
    """
    state.image.train()
    while state.done < iterations:
        x = state.image()
        latents, gradients = [], []
        for target in targets:
            if state.done >= target.guide.begin:
                z = target.encode(x, state.generator)
                residual, alpha = target.noise_residual(z, state.generator)
                w = 1 - alpha  # w(t) = sigma_t^2, as in DreamFusion
                latents.append(z)
                gradients.append(target.guide.weight * w * residual / len(z))
        state.optimizer.zero_grad()
        torch.autograd.backward(latents, gradients)  # goes on with dz/dx and dx/dtheta, but not through the experts
        state.optimizer.step()
        state.done += 1
        if after_each is not None:
            after_each(state)


@torch.no_grad()
def errors(image: Tensor, targets: Mapping[str, SDSTarget], *, probes: int, seed: int) -> dict[str, float]:
    """Each expert's mean squared denoising error ||eps_m(z_t, t) - eps||^2 of an image, a number per latent value.

    Views, timesteps and noise depend on the seed alone, so that two images can be compared.

    Args:
        image: x, (1, 1, H, W) in [0, 1].
        targets: by name.
        probes: how many (t, eps) the mean is over, for each expert.
        seed: of the probes.
    """
    found = {}
    for name, target in targets.items():
        generator = torch.Generator("cpu").manual_seed(seed)
        each = []
        for _ in range(probes):
            z = target.encode(image, generator)
            each.append(float(target.noise_residual(z, generator)[0].square().mean()))
        found[name] = sum(each) / probes
    return found
