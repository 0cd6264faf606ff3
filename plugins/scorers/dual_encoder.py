"""Scorers by dual encoders such as CLIP and CLAP: cosine of a prompt's embedding and a sample's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from its.errors import UserError
from its.interfaces import Scorer
from its.weights import PretrainedComponent, Source
from its.weights.model_files import TRANSFORMERS, ModelFiles, model_files
from its.weights.models import check_shapes, read_model, read_tokenizer

PREPROCESSOR = "preprocessor_config.json"


class DualEncoder(PretrainedComponent, Scorer):
    """Base of scorers whose model, preprocessor and tokenizer lie in one folder.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; None for the pinned one.
        batch_size: inputs that the network gets at once.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    non_identity_args = ("batch_size",)  # changes scores by rounding alone

    def __init__(self, *, weights: str, revision: str | None, batch_size: int) -> None:
        super().__init__(weights=weights, revision=revision)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        self.batch_size = batch_size
        self.model: Any = None
        self._files: ModelFiles | None = None
        self._preprocessor: Any = None
        self._tokenizer: Any = None
        self._texts: dict[str, Tensor] = {}

    model_type: str
    """What transformers calls such a model in `config.json`."""

    @abstractmethod
    def libraries(self) -> tuple[Any, Any]:
        """Classes of transformers: the model, and its preprocessor."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """Length of the longest prompt that the text encoder reads. Valid after `load`."""

    def select(self, source: Source) -> Sequence[str]:
        self._files = model_files(source, "", TRANSFORMERS)
        if (kind := source.json(self._files.config).get("model_type", self.model_type)) != self.model_type:
            raise UserError(f"{source.name} is of type {kind}, expected {self.model_type}: name such a model")
        small = source.require(PREPROCESSOR, "tokenizer_config.json")
        if "tokenizer.json" not in source and "vocab.json" not in source:
            raise source.lacks("tokenizer.json")
        merges = tuple(name for name in ("merges.txt",) if name in source)
        return tuple(dict.fromkeys(self._files.names + small + merges))

    def check_tensors(self) -> None:
        """Against `config.json`."""
        assert self._files is not None
        check_shapes(self.libraries()[0], self.source, self._files)

    def read(self) -> None:
        """In float32 whatever torch's default is, since scores differ in the third decimal."""
        assert self._files is not None
        model_class, preprocessor_class = self.libraries()
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            self.model = read_model(model_class, self.folder, self._files)
        finally:
            torch.set_default_dtype(before)
        from transformers import AutoTokenizer

        self._tokenizer = read_tokenizer(AutoTokenizer, self.folder)
        self._preprocessor = read_tokenizer(preprocessor_class, self.folder)

    def embed_text(self, prompt: str) -> Tensor:
        """A prompt -> (c,), normalised; each prompt is encoded once."""
        if prompt not in self._texts:
            tokens = self._tokenizer([prompt], truncation=True, max_length=self.max_tokens, return_tensors="pt")
            features = self.model.get_text_features(
                input_ids=tokens.input_ids.to(self.model.device),
                attention_mask=tokens.attention_mask.to(self.model.device),
            ).pooler_output
            self._texts[prompt] = normalize(features, dim=-1)[0]
        return self._texts[prompt]
