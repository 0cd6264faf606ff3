"""Build the method and the data module of a composed config, and find the weights or those of the fallback pack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from its.config import fallback
from its.config.allowlist import ConfigRules
from its.config.compose import SECTIONS, Config
from its.config.merge import merge
from its.config.options import PredictOptions
from its.engine.trainer import check_trainer, device_type
from its.errors import UserError
from its.instantiate import Fault, Instantiator, raise_faults, unknown_names
from its.methods.base import Method
from its.methods.classes import method_class
from its.privacy import scrub
from its.specs.prompts import PromptGrid
from its.weights import WeightsNotFound

TRAINER_DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,  # `Progress` counts samples and steps
    "enable_model_summary": False,
}

NOT_RESOLVED = ("mixed", "retry_failed")
"""Keys that do not affect the samples; `Assembly.resolved` leaves them out."""


class Assembly:
    """The objects that a config describes.

    Args:
        config: composed.
        trusted: modules whose classes the config may name.

    Attributes:
        method: the method, without loaded weights.
        data: prompts, seeds and their settings.
        options: keys of `its predict` itself.
        trainer: arguments of Lightning's Trainer.
        resolved: the config with all defaults, without secrets and with `~` for the home folder. As a config of
            `its predict`, it makes the same samples.

    Raises:
        UserError: with all faults of the config.
    """

    method: Method
    data: PromptGrid
    options: PredictOptions
    trainer: dict[str, Any]
    resolved: dict[str, Any]

    def __init__(self, config: Config, *, trusted: Sequence[str] = ()) -> None:
        self.config = config
        self.trusted = trusted
        self._build(config)

    def find_weights(self) -> str | None:
        """Find the weights. If some are missing, build all objects again with those of the pack in `model.fallback`.

        Returns:
            A warning if the pack is used, otherwise None.

        Raises:
            UserError: the machine lacks the device, weights are missing without a fallback, or components are
                incompatible.
        """
        try:
            check_trainer(self.trainer)
        except UserError as error:
            raise_faults([Fault("trainer", str(error))], self.config.source_of)
        warning = None
        try:
            self.method.find()
        except WeightsNotFound as missing:
            warning = self._use_pack(missing)
        self.data.fix_batch_size(device_type(self.trainer), one_by_one=self.method.one_by_one)
        return warning

    def _build(self, config: Config) -> None:
        build = Instantiator(ConfigRules(trusted=self.trusted, source_of=config.source_of))
        values = config.values
        top = {key: value for key, value in values.items() if key not in SECTIONS}
        known = (*SECTIONS, *PredictOptions.__dataclass_fields__)
        build.faults += unknown_names(top, known, "", f"unknown key; expected one of {', '.join(known)}.")
        options, resolved = build.arguments(PredictOptions, {k: v for k, v in top.items() if k in known}, "")
        sections = {name: {} if values.get(name) is None else values[name] for name in SECTIONS}
        method, resolved["model"] = build.construct(method_class(config.method), sections["model"], "model")
        data, resolved["data"] = build.construct(PromptGrid, sections["data"], "data")
        self.trainer, resolved["trainer"] = build.arguments(
            Trainer, merge(TRAINER_DEFAULTS, sections["trainer"]), "trainer"
        )
        seed = options.get("seed_everything", False)
        if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed < 2**32:
            build.faults.append(Fault("seed_everything", f"got {seed}; expected 0 to {2**32 - 1}"))
        if not str(options.get("output", PredictOptions.output)).strip():
            build.faults.append(Fault("output", "is empty; expected a folder"))
        raise_faults(build.faults, config.source_of)
        self.method, self.data, self.options = method, data, PredictOptions(**options)
        resolved = {key: value for key, value in resolved.items() if key not in NOT_RESOLVED}
        self.resolved = scrub({"method": config.method, **resolved})

    def _use_pack(self, missing: WeightsNotFound) -> str:
        """Build all objects with the weights of the fallback pack, and return the warning."""
        pack = fallback.fallback_pack(missing, self.method.fallback)
        for keep_vocoder in (True, False):
            self._build(fallback.replace_weights(self.config, pack, keep_vocoder=keep_vocoder))
            try:
                self.method.find()
                break
            except WeightsNotFound as also:
                if not (keep_vocoder and also.reason.startswith("model.vocoder")):
                    raise UserError(f"the pack {pack.name} can't be used: {also}") from None
        self.method.fallback_taken = missing.reason
        settings = "Settings are the pack's own."
        if self.data.prompts:
            spec = self.data.expand(self.method.expert_names)[0]
            scales = ", ".join(f"{name} {scale:g}" for name, scale in spec.guidance_scale.items())
            settings = f"Settings are the pack's own: {self.method.length(spec)}, guidance {scales}."
        return fallback.format_warning(missing, pack, instead="demo weights", settings=settings)
