"""Interfaces of the components.

A plugin subclasses one of these and carries `@its.register`; YAML refers to it by its class name.

Shapes used here: b batch, c channels, H W rows and columns of a picture, h w rows and columns of latents, f mel bins
(0 = lowest), t frames, n audio samples.

This module imports no other module of `its` at run time.
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
    """Base class of objects that record the arguments of their constructors."""

    arguments: Mapping[str, Any] = MappingProxyType({})
    """The constructor's arguments by name, defaults included."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", _record_arguments(cls.__dict__["__init__"]))  # noqa: B010 - mypy forbids the other way


class Plugin(KeepsArguments):
    """Base class of all interfaces. Records and sample ids describe settings by the constructor's arguments."""

    non_identity_args: ClassVar[tuple[str, ...]] = ()
    """Arguments that do not affect results, in addition to those of the base classes. Examples are performance options
    and the location of weights, which `Component.provenance` identifies by content."""

    def describe(self, *, identity_only: bool = False) -> dict[str, Any]:
        """Return class name and arguments as JSON-serialisable values. Nested plugins are described likewise.

        Args:
            identity_only: omit `non_identity_args`, so that plugins with equal results have equal descriptions.
        """
        names = [name for cls in type(self).__mro__ for name in cls.__dict__.get("non_identity_args", ())]
        arguments = {
            name: _describe(value, identity_only)
            for name, value in self.arguments.items()
            if not (identity_only and name in names)
        }
        return {"class": type(self).__name__, **arguments}

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """Validate the canvas (rows, columns) and the number of steps. The default accepts all.

        Called before weights are loaded. For components with weights it is called after `find`.

        Raises:
            ValueError: the plugin does not support them; the message contains the reason.
        """


def _describe(value: Any, identity_only: bool) -> Any:
    if isinstance(value, Plugin):
        return value.describe(identity_only=identity_only)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _record_arguments(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: KeepsArguments, *args: Any, **kwargs: Any) -> None:
        if "arguments" not in self.__dict__:  # the outermost constructor runs first; record its arguments only
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            self.__dict__["arguments"] = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)

    return wrapper


class Files(Protocol):
    """Weights files of one source, local or downloadable. Implemented by `its.weights.Source`.

    Attributes:
        name: the source as written in the config.
        folder: folder of the files, before and after a download.
        revision: commit of the hub repository; None for other sources.
    """

    name: str
    folder: Path
    revision: str | None

    def fetch(self, names: Sequence[str]) -> None:
        """Download files."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """Files of one source that have to be downloaded.

    Attributes:
        source: the source.
        sizes: file sizes in bytes, by file name.
    """

    source: Files
    sizes: Mapping[str, int]


class Component(Plugin, nn.Module):
    """Base class of plugins that may have weights: experts, codecs, vocoders, colorizers and scorers.

    The constructor only stores its arguments. `find`, `prepare` and `load` are then called in this order in each
    process. Each also calls the components inside, so a wrapper does not need to override it. Components with weights
    of their own subclass `its.weights.PretrainedComponent` as well.
    """

    def find(self) -> list[Download]:
        """Locate the weights, check their kind, and return the downloads that `prepare` will make.

        Only small files are downloaded, such as configurations.

        Raises:
            its.weights.WeightsNotFound: the weights are neither on this machine nor downloadable.
            its.errors.UserError: the weights are of a kind that this component does not read.
        """
        return [download for component in _nearest_components(self) for download in component.find()]

    def prepare(self) -> None:
        """Locate the weights and download missing files. Nothing is loaded.

        Raises:
            its.weights.WeightsNotFound, its.errors.UserError: as `find`.
        """
        for component in _nearest_components(self):
            component.prepare()

    def load(self) -> None:
        """Load the weights, with torch's current default dtype and device, which Lightning sets. Idempotent."""
        for component in _nearest_components(self):
            component.load()

    def provenance(self) -> dict[str, Any] | None:
        """Return name and revision or sha256 of the weights, for `sample.json`. Valid after `find`.

        None if the component has no weights.
        """
        return None

    @classmethod
    def example(cls, folder: Path) -> Self:
        """Create a small instance for the contract suite of `its.testing`, with random weights written to `folder`."""
        return cls()


def _nearest_components(module: nn.Module) -> Iterator[Component]:
    """Yield the components among a module's descendants that are not inside another of them."""
    for child in module.children():
        if isinstance(child, Component):
            yield child
        else:
            yield from _nearest_components(child)


class LatentCodec(Component, ABC):
    """Encodes pictures to the latents that experts denoise, and decodes latents to pictures."""

    @property
    def latent_space(self) -> str | None:
        """Name of the latent space, compared with that of the experts; None to skip the check. Valid after `find`."""
        return None

    @abstractmethod
    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """Return the latents' shape (c, h, w) for a picture of (H, W) rows and columns. Valid after `find`.

        Raises:
            ValueError: H or W is not a multiple of the downsampling factor; the message contains canvas and factor.
        """

    @abstractmethod
    def encode(self, picture: Tensor) -> Tensor:
        """Encode pictures (b, 3, H, W) in [0, 1] to latents (b, c, h, w): the posterior mean, differentiable."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (b, c, h, w) to pictures (b, 3, H, W) in [0, 1], of the same dtype."""


class IdentityCodec(LatentCodec):
    """Codec of pixel-space experts, whose latents are the picture in [-1, 1]."""

    @property
    def latent_space(self) -> str:
        """The name `pixels`."""
        return "pixels"

    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """Return (3, H, W)."""
        return 3, *canvas

    def encode(self, picture: Tensor) -> Tensor:
        """Map [0, 1] to [-1, 1]."""
        return picture * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        """Map [-1, 1] to [0, 1], clamped."""
        return (latents / 2 + 0.5).clamp(0, 1)


class NoiseExpert(Component, ABC):
    """Text-conditioned diffusion model that estimates the noise in latents.

    An expert computes conditional estimates only. The core handles classifier-free guidance, batching, caching of text
    embeddings and precision.
    """

    format: SpectrogramFormat | None = None
    """Spectrogram format of the expert's pictures; None if they are not spectrograms."""

    capturable: bool = False
    """Whether `predict_noise` may be captured in a CUDA graph: it depends on its arguments and the weights alone, and
    never synchronises with the device. With `model.cuda_graph: auto` it is then captured."""

    controls: int = 0
    """Number of control pictures that `add_control` adds; 0 if the expert is conditioned by text alone."""

    @property
    @abstractmethod
    def latent_space(self) -> str:
        """Name of the latent space. Only experts with equal names can be combined. Valid after `find`."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode b prompts to embeddings (b, ...), on any device. Guidance also encodes the empty prompt."""

    @abstractmethod
    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Estimate the noise in latents.

        Args:
            latents: noisy latents z_t, (b, c, h, w). Must not be changed in place.
            timestep: training timesteps, (b,) int64. They may differ within a batch.
            text: text embeddings, (b, ...).

        Returns:
            Noise (b, c, h, w) in the dtype of the latents, whatever the dtype of the weights.
        """

    def add_control(self, text: Tensor, pictures: Tensor, scales: Tensor) -> Tensor:
        """Add control pictures to text embeddings. Called for experts with `controls` only.

        Args:
            text: text embeddings, (b, ...).
            pictures: `controls` pictures of the canvas's size for each sample, (b, k, 3, H, W) in [0, 1].
            scales: strength of each, (b, k); 0 for none.

        Returns:
            Embeddings (b, ...) for `predict_noise`.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no control pictures")

    def compile_network(self) -> bool:
        """Compile the loaded network with torch.compile, for a fixed batch size. The default compiles nothing.

        Called if `model.compile` is set. Returns whether a network was compiled.
        """
        return False

    def codec(self) -> LatentCodec:
        """Create the codec of this expert's latents, not yet prepared. The default is `IdentityCodec`."""
        return IdentityCodec()

    def alphas(self) -> Tensor:
        """Return the training noise schedule: alpha_t of z_t = sqrt(alpha_t) z_0 + sqrt(1 - alpha_t) eps.

        (T,) strictly decreasing values in [0, 1], float32 on the CPU. The default is that of Stable Diffusion v1 and
        its fine-tunes. A scheduler with another schedule is rejected. Valid after `find`.
        """
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32, device="cpu") ** 2
        return (1 - betas).cumprod(0)


class ExpertWrapper(NoiseExpert):
    """Base class of experts that wrap another expert. Forwards everything that a subclass does not override.

    Args:
        expert: the wrapped expert.
    """

    def __init__(self, expert: NoiseExpert) -> None:
        super().__init__()
        self.expert = expert
        self.format = expert.format
        self.capturable = expert.capturable
        self.controls = expert.controls

    @property
    def latent_space(self) -> str:
        """Latent space of the wrapped expert."""
        return self.expert.latent_space

    def check(self, *, canvas: tuple[int, int], steps: int) -> None:
        """Forward to the wrapped expert."""
        self.expert.check(canvas=canvas, steps=steps)

    def provenance(self) -> dict[str, Any] | None:
        """Forward to the wrapped expert."""
        return self.expert.provenance()

    def codec(self) -> LatentCodec:
        """Forward to the wrapped expert."""
        return self.expert.codec()

    def alphas(self) -> Tensor:
        """Forward to the wrapped expert."""
        return self.expert.alphas()

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Forward to the wrapped expert."""
        return self.expert.encode_text(prompts)

    def add_control(self, text: Tensor, pictures: Tensor, scales: Tensor) -> Tensor:
        """Forward to the wrapped expert."""
        return self.expert.add_control(text, pictures, scales)

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Forward to the wrapped expert."""
        return self.expert.predict_noise(latents, timestep, text)

    def compile_network(self) -> bool:
        """Forward to the wrapped expert."""
        return self.expert.compile_network()


@dataclass(frozen=True, kw_only=True)
class Step:
    """A completed step of the reverse process, passed to the callback `on_step`.

    Attributes:
        index: index of the step, from 0.
        steps: number of steps of the reverse process.
        timestep: training timestep; decreases from step to step.
        experts: names of all experts of the process.
        ran: names of the experts that were evaluated in this step.
        clean: implementation of `predict_clean`; None if the process has no latents.
    """

    index: int
    steps: int
    timestep: int
    experts: Sequence[str]
    ran: Sequence[str]
    clean: Callable[[], Tensor] | None = None

    @property
    def progress(self) -> float:
        """Fraction of the reverse process before this step, in [0, 1)."""
        return self.index / self.steps

    def predict_clean(self) -> Tensor:
        """Compute the clean latents z_0 (b, c, h, w) implied by the step's combined noise estimate.

        Raises:
            RuntimeError: the process has no latents, as in score distillation.
        """
        if self.clean is None:
            raise RuntimeError("clean latents can't be predicted: this process has no latents")
        return self.clean()


class Combiner(Plugin, ABC):
    """Combines the noise estimates of several experts into one.

    `weights` and `combine` must depend on their arguments alone. The samples of a batch may have different combiners.
    """

    @abstractmethod
    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weight of each expert by name, at a fraction of the reverse process in [0, 1).

        The mapping must have a finite weight for each expert of the run, and no other name. Experts with weight 0 are
        not evaluated.
        """

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        """Combine guided noise estimates. The default is the weighted sum of Eq. 5.

        Args:
            estimates: eps_m of the experts with non-zero weight, by name, (b, c, h, w) each.
            latents: z_t, (b, c, h, w).
            progress: fraction of the reverse process, in [0, 1).

        Returns:
            Combined noise (b, c, h, w) in the latents' dtype. A sample must not depend on the rest of the batch.
        """
        weights = self.weights(progress)
        terms = [weights[name] * estimate for name, estimate in estimates.items()]
        return functools.reduce(torch.add, terms) if terms else torch.zeros_like(latents)

    @classmethod
    def example(cls, experts: Sequence[str]) -> Self:
        """Create an instance for experts of these names, for the contract suite of `its.testing`."""
        return cls()


class SamplingPlan(ABC):
    """One reverse process of a scheduler. Keep its tables on the CPU, so that no step synchronises with the device."""

    stateless: bool = False
    """Whether each step depends on its arguments alone, so that another plan can continue the process."""
    timesteps: Tensor
    """(steps,) training timesteps, strictly decreasing, int64 on the CPU."""

    @abstractmethod
    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """Advance latents by one step.

        Args:
            noise: combined noise estimate, (b, c, h, w).
            index: index of the step. Steps are taken in order, each once; the first one may have any index.
            latents: z_t at `timesteps[index]`, (b, c, h, w). Must not be changed in place.

        Returns:
            Latents at the next timestep, or clean latents after the last step; same shape and dtype as `latents`.
        """

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        """Compute z_t at `timesteps[index]`, (b, c, h, w). Linear in the clean latents z_0 and in the noise."""

    def predict_clean(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        """Compute z_0 from z_t at `timesteps[index]` and its noise, (b, c, h, w) each. Inverse of `add_noise`."""
        one, zero = torch.ones_like(latents[:1, :1, :1, :1]), torch.zeros_like(latents[:1, :1, :1, :1])
        signal, sigma = self.add_noise(one, zero, index), self.add_noise(zero, one, index)
        return (latents - sigma * noise) / signal


class Scheduler(Plugin, ABC):
    """Selects the timesteps of the reverse process and advances latents from one to the next."""

    @abstractmethod
    def plan(self, steps: int) -> SamplingPlan:
        """Create a reverse process with this number of steps. Plans share no state.

        Raises:
            ValueError: the scheduler does not support this number of steps.
        """

    @classmethod
    def example(cls) -> Self:
        """Create an instance for the contract suite of `its.testing`."""
        return cls()


class Vocoder(Component, ABC):
    """Synthesises sound from a log-mel spectrogram. Stays in float32 at any precision of the run."""

    @property
    @abstractmethod
    def format(self) -> SpectrogramFormat:
        """Spectrogram format of the input. Valid after `find`."""

    def set_format(self, format: SpectrogramFormat) -> None:
        """Set the experts' spectrogram format, before `find`. Override it in vocoders that support any format."""

    @abstractmethod
    def forward(self, log_mel: Tensor) -> Tensor:
        """Synthesise sound (b, t * hop_length) in [-1, 1] from natural logs of mel magnitudes (b, f, t), in float32.

        In stereo formats, the shapes are (b, 2, t * hop_length) and (b, 2, f, t).
        """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Apply moves between devices, but no casts: half precision is audible in log-mel values.
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor.new_empty(0)).device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]


class Colorizer(Component, ABC):
    """Colorizes gray pictures."""

    @abstractmethod
    def forward(self, gray: Tensor, prompts: Sequence[str], generators: Sequence[torch.Generator]) -> Tensor:
        """Colorize a batch.

        Args:
            gray: gray pictures (b, 1, H, W) in [0, 1].
            prompts: a colour prompt for each sample.
            generators: a CPU generator for each sample, the only source of randomness.

        Returns:
            Colour pictures (b, 3, H, W) in [0, 1], whose channel mean equals `gray`.
        """


@dataclass(frozen=True, kw_only=True)
class ScorerInput:
    """Picture and sound of one sample as stored in its files, and the prompt to score them against.

    Attributes:
        picture: gray picture (H, W) in [0, 1], row 0 the highest band, float32 on the CPU; multiples of 1/255.
        waveform: mean (n,) of the sound's channels in [-1, 1], float32 on the CPU.
        sample_rate: sample rate in Hz.
        prompt: prompt of the picture for a visual scorer, prompt of the sound for an audio scorer.
    """

    picture: Tensor
    waveform: Tensor
    sample_rate: int
    prompt: str


class Scorer(Component, ABC):
    """Scores how well a sample's picture or sound matches its prompt. Higher is better."""

    @property
    @abstractmethod
    def modality(self) -> Literal["visual", "audio"]:
        """Modality that is scored."""

    @abstractmethod
    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        """Return a score in [0, 1] for each sample, displayed in percent; None if its prompt is not supported.

        Called with loaded weights and without gradients. A score must not depend on the other samples.
        """


INTERFACES: dict[str, type] = {
    interface.__name__: interface
    for interface in (NoiseExpert, Combiner, Scheduler, Vocoder, Colorizer, LatentCodec, Scorer)
}
