"""Read diffusers and transformers models and tokenizers from local folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from its.errors import UserError
from its.weights.files import Shapes, read_json
from its.weights.model_files import ModelFiles
from its.weights.source import Source

_SPIECE = "sentencepiece"


class SkipInit(TorchFunctionMode):
    """Context that disables `torch.nn.init`, for models whose parameters are replaced or not used."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Return the tensor of an initializer unchanged; call all other functions."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def read_model(
    model_class: Any,  # neither library types from_pretrained
    folder: Path,
    files: ModelFiles,
    *,
    channels_last: bool = False,
    **options: Any,
) -> Any:
    """Read a diffusers or transformers model for inference, in torch's default dtype and device.

    Custom code and attention implementations in the configuration are ignored. The files must have passed
    `its.weights.files.check_file`, since the libraries' errors for refused pickles are misleading.

    Raises:
        UserError: the files lack tensors, or are quantized.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()  # one for each text encoder; downloads keep theirs
    device = torch.get_default_device()
    config = safe_config(read_json(folder / files.config), folder / files.config)
    if issubclass(model_class, transformers.PreTrainedModel):
        attention = "sdpa" if model_class._supports_sdpa else "eager"
        options |= {"config": model_class.config_class.from_dict(config), "attn_implementation": attention}
    # On the CPU, since transformers requires accelerate within a device context.
    with torch.device("cpu"), SkipInit():
        model, report = model_class.from_pretrained(
            str(folder),
            subfolder=files.component,
            variant=files.variant,
            use_safetensors=not files.pickled,
            local_files_only=True,
            dtype=torch.get_default_dtype(),
            output_loading_info=True,
            **options,
        )
    # Both libraries only log missing keys, and leave these parameters uninitialized.
    if missing := sorted(report["missing_keys"]):
        raise incomplete(folder / files.component, model_class, missing)
    if not isinstance(model, transformers.PreTrainedModel):  # transformers casts, except for what it keeps in float32
        # diffusers doesn't cast files of mixed precision, and its own `to` prints a warning.
        model = nn.Module.to(model, torch.get_default_dtype())
    return for_inference(model, device=device, channels_last=channels_last)


def check_shapes(model_class: Any, source: Source, files: ModelFiles) -> None:
    """Compare the tensor shapes of a model, as far as known without a download, with its `config.json`.

    Tensors of other names are ignored, since both libraries rename some in older files.

    Raises:
        UserError: a shape differs, or the weights are quantized.
    """
    config = safe_config(source.json(files.config), f"{source.name}: {files.config}")
    expected = _expected_shapes(model_class, json.dumps(config, sort_keys=True))
    for file in files.weights:
        shapes = None if file.endswith(".json") else source.shapes(file)
        for name, shape in (shapes or {}).items():
            # transformers 5 omits the prefix of CLIP's text encoder.
            required = expected.get(name, expected.get(name.removeprefix("text_model."), shape))
            if shape != required:
                raise UserError(
                    f"{source.name}: {name} in {file} has shape {shape}, but {files.config} requires {required}: they "
                    "belong to different models; get both from one source"
                )


def safe_config(config: Any, where: Path | str) -> Any:
    """Remove entries from a model's `config.json` that make the libraries import code, or fetch kernels from the hub.

    Raises:
        UserError: the weights are quantized.
    """
    if isinstance(config, list):
        return [safe_config(value, where) for value in config]
    if not isinstance(config, Mapping):
        return config
    if config.get("quantization_config") is not None:
        raise UserError(f"{where} has a quantization_config: quantized weights can't be read; use others")
    unsafe = ("auto_map", "custom_pipelines", "quantization_config")
    safe = {key: value for key, value in config.items() if key not in unsafe and "attn_implementation" not in key}
    return {key: safe_config(value, where) for key, value in safe.items()}


@lru_cache(maxsize=16)  # components of a run often have equal configurations
def _expected_shapes(model_class: Any, config: str) -> Shapes:
    values: Mapping[str, Any] = json.loads(config)
    with torch.device("meta"), SkipInit():  # allocates no memory
        if hasattr(model_class, "config_class"):
            model = model_class(model_class.config_class.from_dict(values))
        else:
            model = model_class.from_config(values)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def for_inference(model: Any, *, device: torch.device, channels_last: bool = False) -> Any:
    """Move a model to a device, in evaluation mode and without gradients."""
    layout = torch.channels_last if channels_last else torch.preserve_format
    return model.eval().requires_grad_(False).to(device, memory_format=layout)


def incomplete(where: Path | str, model_class: type, missing: list[str]) -> UserError:
    """Return the error for missing tensors."""
    return UserError(
        f"{where} is incomplete as {model_class.__name__}: it lacks {len(missing)} tensors, for example {missing[0]}; "
        "get the weights again"
    )


def read_tokenizer(tokenizer_class: Any, folder: Path) -> Any:
    """Read a tokenizer or another preprocessor from its folder, without custom code.

    Raises:
        UserError: the folder can't be read, requires custom code, or requires a missing library.
    """
    if not (folder / "tokenizer.json").exists() and (folder / "spiece.model").exists() and not find_spec(_SPIECE):
        raise UserError(f"{folder / 'spiece.model'} needs the library {_SPIECE}: pip install {_SPIECE}")
    try:
        return tokenizer_class.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions for damaged vocabularies
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} can't be read: {reason[:300]}") from error
