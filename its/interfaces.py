"""Interfaces of the components.

Shapes used here: b batch, c channels, h w rows and columns of a picture or of latents,
f mel bins (0 = lowest), t frames, n samples of sound.

Plugins subclass one of these and carry `@its.register`; YAML names them by their class name.
This module imports no other of the package at run time.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from its.audio.spectrogram import SpectrogramFormat


class KeepsArguments:
    """Base class of objects that keep the arguments of their constructors.

    Attributes:
        arguments: by name, with defaults.
    """

    arguments: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", _remembering(cls.__dict__["__init__"]))  # noqa: B010 - mypy forbids the other way


class Plugin(KeepsArguments):
    """Base class of all interfaces. Records and sample ids describe settings by the constructor's arguments."""

    non_identity_args: ClassVar[tuple[str, ...]] = ()
    """Arguments, besides those of the base classes, that samples do not depend on: the place of weights, which
    `Component.provenance` identifies by content, and how they are run."""

    def describe(self, *, defining: bool = False) -> dict[str, Any]:
        """Class and arguments, as JSON-serialisable values. Arguments that are plugins describe themselves.

        Args:
            defining: leave out `non_identity_args`, so that plugins of equal results have equal descriptions.
        """
        left_out = {
            name for cls in type(self).__mro__ for name in cls.__dict__.get("non_identity_args", ()) if defining
        }
        kept = {name: _plain(value, defining) for name, value in self.arguments.items() if name not in left_out}
        return {"class": type(self).__name__, **kept}

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """Check that this suits a process of so many steps on a canvas of (rows, columns).

        Called before weights are loaded, for components with weights after `find`. The default accepts all.

        Raises:
            ValueError: it does not; the message says why.
        """


def _plain(value: Any, defining: bool) -> Any:
    if isinstance(value, Plugin):
        return value.describe(defining=defining)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remember(self: KeepsArguments, *args: Any, **kwargs: Any) -> None:
        if "arguments" not in self.__dict__:  # a subclass's constructor comes first, and its arguments count
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            self.__dict__["arguments"] = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)

    return remember


class Files(Protocol):
    """Files behind a name of weights, some of which may have to be downloaded: see `its.weights.Source`."""

    @property
    def name(self) -> str:
        """The weights as a config names them."""

    @property
    def folder(self) -> Path:
        """Where the files are, or will be."""

    @property
    def revision(self) -> str | None:
        """Commit of the hub's repository."""

    def fetch(self, names: Sequence[str]) -> None:
        """Download files."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """Files of one source that are not on this machine.

    Attributes:
        source: where they come from.
        sizes: their bytes, by name.
    """

    source: Files
    sizes: Mapping[str, int]


class Component(Plugin, nn.Module):
    """Base of experts, codecs, vocoders, colorizers and scorers: weights are found first and loaded later.

    A constructor only keeps its arguments. `find`, `prepare` and `load` are called in this order, once in each process.
    Each also calls the parts within, so that a wrapper has nothing to add. `its.weights.PretrainedComponent` is the
    base of parts that have weights of their own.
    """

    def find(self) -> list[Download]:
        """Find the weights and check what they are; nothing but small files is downloaded.

        Returns:
            What has to be downloaded.

        Raises:
            its.weights.WeightsNotFound: weights are neither on this machine nor downloadable.
            its.errors.UserError: they are of another kind than this part reads.
        """
        return [download for part in _parts_within(self) for download in part.find()]

    def prepare(self) -> None:
        """Find the weights, and download what is missing. Nothing is read.

        Raises:
            its.weights.WeightsNotFound, its.errors.UserError: as `find`.
        """
        for part in _parts_within(self):
            part.prepare()

    def load(self) -> None:
        """Read the weights. Lightning sets torch's default dtype and device around this call: follow them."""
        for part in _parts_within(self):
            part.load()

    def provenance(self) -> dict[str, Any] | None:
        """Which weights this part runs on, for `sample.json`: name, and revision or sha256. None if it has none.

        Valid after `find`.
        """
        return None

    @classmethod
    def example(cls, folder: Path) -> Self:
        """A small instance for the contract suite of `its.testing`, with random weights made in `folder`.

        The default suits a part that needs no arguments and no weights.
        """
        return cls()


def _parts_within(module: nn.Module) -> Iterator[Component]:
    """The nearest parts among a module's descendants."""
    for child in module.children():
        if isinstance(child, Component):
            yield child
        else:
            yield from _parts_within(child)


class LatentCodec(Component, ABC):
    """Maps pictures to the latents that experts denoise, and back."""

    @property
    def latent_space(self) -> str | None:
        """Name of the latents' space, to compare with the experts'; None is not compared. Valid after `find`."""
        return None

    @abstractmethod
    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """(rows, columns) of a picture -> (c, h, w) of its latents. Valid after `find`.

        Raises:
            ValueError: the canvas is not a multiple of what one latent covers.
        """

    @abstractmethod
    def encode(self, picture: Tensor) -> Tensor:
        """(b, 3, H, W) in [0, 1] -> (b, c, h, w); the mean of the posterior, differentiable."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 3, H, W) in [0, 1]."""


class IdentityCodec(LatentCodec):
    """The codec of pixel-space experts: their latents are the picture itself, in [-1, 1]."""

    @property
    def latent_space(self) -> str:
        """Pixels: the picture itself."""
        return "pixels"

    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """(H, W) -> (3, H, W)."""
        return 3, *canvas

    def encode(self, picture: Tensor) -> Tensor:
        """[0, 1] -> [-1, 1]."""
        return picture * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1], clamped."""
        return (latents / 2 + 0.5).clamp(0, 1)


class NoiseExpert(Component, ABC):
    """A text-conditioned diffusion model that estimates the noise in latents.

    The core adds guidance, batching, caching of texts and precision to the plain conditional estimates of an expert.
    """

    format: SpectrogramFormat | None = None
    """Spectrogram format of the expert's pictures; None if they are not spectrograms."""

    capturable: bool = False
    """Whether `predict_noise` may be captured in a CUDA graph, which `model.cuda_graph: auto` does then: it computes
    from its arguments and the weights alone, and never waits for the device."""

    @property
    @abstractmethod
    def latent_space(self) -> str:
        """Name of the space of the latents. Experts of equal names can be combined.

        Valid after `find`: for a latent diffusion model it follows from the configuration of its autoencoder.
        """

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """b prompts -> (b, ...), on any device: the core moves it. The empty prompt is the null text of guidance."""

    @abstractmethod
    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Noisy latents (b, c, h, w), training timestep (b,) int64, text (b, ...) -> noise (b, c, h, w).

        The noise has the dtype of the latents, whatever that of the weights.
        """

    def compile_network(self) -> bool:
        """Have torch compile the network, loaded, for batches of one size; `model.compile` asks for it.

        Returns:
            Whether there was something to compile. The default compiles nothing.
        """
        return False

    def codec(self) -> LatentCodec:
        """The codec of this expert's latents, not yet prepared. The default is that of pixel space."""
        return IdentityCodec()

    def alphas(self) -> Tensor:
        """The noise schedule that the expert was trained with: (T,) alpha_t, which falls, float32 on the CPU.

        z_t = sqrt(alpha_t) z_0 + sqrt(1 - alpha_t) eps. The default is that of Stable Diffusion v1 and all that was
        tuned from it. Valid after `find`. A scheduler with another schedule is refused.
        """
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32, device="cpu") ** 2
        return (1 - betas).cumprod(0)


class ExpertWrapper(NoiseExpert):
    """Base of experts that wrap another one: everything is forwarded to it but what a subclass overrides.

    Args:
        expert: the wrapped one.
    """

    def __init__(self, expert: NoiseExpert) -> None:
        super().__init__()
        self.expert = expert
        self.format = expert.format
        self.capturable = expert.capturable

    @property
    def latent_space(self) -> str:
        """The wrapped expert's."""
        return self.expert.latent_space

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """As the wrapped expert."""
        self.expert.check(canvas=canvas, steps=steps)

    def provenance(self) -> dict[str, Any] | None:
        """The wrapped expert's."""
        return self.expert.provenance()

    def codec(self) -> LatentCodec:
        """The wrapped expert's."""
        return self.expert.codec()

    def alphas(self) -> Tensor:
        """The wrapped expert's."""
        return self.expert.alphas()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The wrapped expert's."""
        return self.expert.encode_text(prompts)

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """The wrapped expert's."""
        return self.expert.predict_noise(latents, timestep, text)

    def compile_network(self) -> bool:
        """Compile the wrapped expert's network."""
        return self.expert.compile_network()


@dataclass(frozen=True, kw_only=True)
class Step:
    """A finished step of the reverse process, as the callback `on_step` gets it."""

    index: int
    """From 0."""
    steps: int
    """Length of the reverse process."""
    timestep: int
    """The training timestep, which falls."""
    experts: Sequence[str]
    """Names of all experts of the process."""
    ran: Sequence[str]
    """Names of the experts that ran in this step."""
    clean: Callable[[], Tensor] | None = None
    """Computes what `predict_clean` returns; None where no latents are denoised."""

    @property
    def progress(self) -> float:
        """Share of the reverse process before this step, in [0, 1)."""
        return self.index / self.steps

    def predict_clean(self) -> Tensor:
        """Clean latents z_0 that follow from the step's combined noise estimate, (b, c, h, w). Computed at each call.

        Raises:
            RuntimeError: the process has no latents, as in score distillation.
        """
        if self.clean is None:
            raise RuntimeError("this process has no latents, so there are no clean ones to predict")
        return self.clean()


class Combiner(Plugin, ABC):
    """Combines the noise estimates of several experts into one.

    Every sample has its own settings, and so may have a combiner of its own. `weights` and `combine` depend on their
    arguments alone.
    """

    @abstractmethod
    def weights(self, progress: float) -> Mapping[str, float]:
        """Weight of each expert, by name, at a share of the reverse process in [0, 1).

        Every expert of the run must be named, and no other. Weights are finite. An expert of weight 0 is not run.
        """

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        """Combine guided estimates. The default is the weighted sum of Eq. 5.

        Args:
            estimates: eps_m of the experts whose weight is not 0, by name, (b, c, h, w) each.
            latents: z_t, (b, c, h, w).
            progress: share of the reverse process in [0, 1).

        Returns:
            (b, c, h, w), in the latents' dtype. A sample's values do not depend on the other samples.
        """
        weights = self.weights(progress)
        total: Tensor | None = None
        for name, estimate in estimates.items():
            weighted = weights[name] * estimate
            total = weighted if total is None else total + weighted
        return torch.zeros_like(latents) if total is None else total

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """An instance for the contract suite of `its.testing` that combines experts of these names."""
        return cls()


class SamplingPlan(ABC):
    """One reverse process of a scheduler. Its tables are on the host, so no step waits for a device."""

    stateless: ClassVar[bool] = False
    """Whether each step depends on its arguments alone, so that a process can be continued by another plan."""
    timesteps: Tensor
    """(steps,) training timesteps, falling, int64 on the CPU."""

    @abstractmethod
    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """Take latents one step further.

        Args:
            noise: the combined estimate, (b, c, h, w).
            index: of the step, from 0. Steps are taken in order, each once.
            latents: z_t at `timesteps[index]`, (b, c, h, w); not changed in place.

        Returns:
            The latents at the next timestep, or the clean ones after the last; same shape and dtype.
        """

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """z_t at `timesteps[index]`, linear in clean latents z_0 and noise, (b, c, h, w) each."""

    def predict_clean(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """z_0 from z_t at `timesteps[index]` and the noise in it, (b, c, h, w) each: the inverse of `add_noise`."""
        one, zero = torch.ones_like(latents[:1, :1, :1, :1]), torch.zeros_like(latents[:1, :1, :1, :1])
        signal, sigma = self.add_noise(one, zero, index), self.add_noise(zero, one, index)
        return (latents - sigma * noise) / signal


class Scheduler(Plugin, ABC):
    """Chooses the timesteps of a reverse process, and takes latents from each to the next."""

    @abstractmethod
    def plan(self, steps: int) -> SamplingPlan:
        """A new reverse process of this many steps. Plans share no state.

        Raises:
            ValueError: this scheduler has no process of so many steps.
        """

    @classmethod
    def example(cls) -> Self:
        """An instance for the contract suite of `its.testing`."""
        return cls()


class Vocoder(Component, ABC):
    """Plays a log-mel spectrogram. It stays in float32 whatever the precision of the run."""

    @property
    @abstractmethod
    def format(self) -> SpectrogramFormat:
        """What spectrogram it reads. Valid after `find`."""

    def set_format(self, format: SpectrogramFormat) -> None:
        """What the experts draw, told before `find`: for vocoders that play any format. The others ignore it."""

    @abstractmethod
    def forward(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes, float32 -> (b, t * hop_length) sound, float32 in [-1, 1].

        Of a format of two channels (b, 2, f, t) -> (b, 2, t * hop_length).
        """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Follow moves between devices, but not casts: half precision is audible in log-mel values.
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor.new_empty(0)).device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]


class Colorizer(Component, ABC):
    """Invents the colour of a gray picture."""

    @abstractmethod
    def forward(self, gray: Tensor, prompts: Sequence[str], generators: Sequence[torch.Generator]) -> Tensor:
        """(b, 1, h, w) in [0, 1], a colour prompt and a CPU generator for each sample -> (b, 3, h, w) in [0, 1].

        The mean over the channels is the gray that was given.
        """


@dataclass(frozen=True, kw_only=True)
class ScorerInput:
    """What a scorer is shown of a sample: what its files hold, as they hold it.

    Attributes:
        picture: (h, w) gray in [0, 1], row 0 the highest band, float32 on the CPU; multiples of 1/255.
        waveform: (n,) in [-1, 1], float32 on the CPU; the mean of the channels.
        sample_rate: in Hz.
        prompt: what the picture should show, or what the sound should be of, as the scorer judges.
    """

    picture: Tensor
    waveform: Tensor
    sample_rate: int
    prompt: str


class Scorer(Component, ABC):
    """Says how well a sample's picture, or its sound, fits its prompt. The higher the better."""

    @property
    @abstractmethod
    def modality(self) -> Literal["visual", "audio"]:
        """Whether it looks or listens: whose prompt it is given."""

    @abstractmethod
    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        """A score in [0, 1] for each sample, which is shown in percent.

        None where it can't say, such as of a prompt that it doesn't know. A sample's score doesn't depend on the
        others. The scorer is loaded, on its device, and no gradients are kept.
        """


INTERFACES: dict[str, type] = {
    interface.__name__: interface
    for interface in (NoiseExpert, Combiner, Scheduler, Vocoder, Colorizer, LatentCodec, Scorer)
}
