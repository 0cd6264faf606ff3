"""Base class of scorers with dual encoders, for example CLIP and CLAP."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from its.errors import UserError
from its.interfaces import Scorer, ScorerInput
from its.weights import PretrainedComponent, Source
from its.weights.model_files import TRANSFORMERS, ModelFiles, model_files
from its.weights.models import check_shapes, read_model, read_tokenizer

PREPROCESSOR = "preprocessor_config.json"


class DualEncoder(PretrainedComponent, Scorer):
    """Base class of scorers whose model, preprocessor and tokenizer are in one folder.

    A score is the cosine similarity of the prompt and the sample's inputs to the network (crops of its picture, or its
    sound), averaged over the inputs and floored at 0.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; None for the pinned commit.
        batch_size: inputs per forward pass of the network.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    non_identity_args = ("batch_size",)  # changes scores only by rounding
    model_type: ClassVar[str]
    """`model_type` in the models' `config.json`."""
    reserved_positions: ClassVar[int] = 0
    """Position embeddings of the text encoder that no token can use."""

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

    @abstractmethod
    def model_classes(self) -> tuple[Any, Any]:
        """Return the model class and the preprocessor class of transformers."""

    @abstractmethod
    def inputs(self, sample: ScorerInput) -> list[Tensor]:
        """Return one or more inputs to the network."""

    @abstractmethod
    def embed(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return normalised embeddings (b, c) of b inputs."""

    def select(self, source: Source) -> Sequence[str]:
        self._files = model_files(source, "", TRANSFORMERS)
        if (kind := source.json(self._files.config).get("model_type", self.model_type)) != self.model_type:
            raise UserError(f"{source.name} is a model of type {kind}, expected {self.model_type}; use such a model")
        small = source.require(PREPROCESSOR, "tokenizer_config.json")
        if "tokenizer.json" not in source and "vocab.json" not in source:
            raise source.lacks("tokenizer.json")
        merges = tuple(name for name in ("merges.txt",) if name in source)
        return tuple(dict.fromkeys(self._files.names + small + merges))

    def check_tensors(self) -> None:
        assert self._files is not None
        check_shapes(self.model_classes()[0], self.source, self._files)

    def read(self) -> None:
        """Read the model in float32, since scores in half precision would differ in the third decimal."""
        from transformers import AutoTokenizer

        assert self._files is not None
        model_class, preprocessor_class = self.model_classes()
        default_dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            self.model = read_model(model_class, self.folder, self._files)
        finally:
            torch.set_default_dtype(default_dtype)
        self._tokenizer = read_tokenizer(AutoTokenizer, self.folder)
        self._preprocessor = read_tokenizer(preprocessor_class, self.folder)

    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        if not samples:
            return []
        inputs = [self.inputs(sample) for sample in samples]
        flat = [value for values in inputs for value in values]
        batches = [flat[first : first + self.batch_size] for first in range(0, len(flat), self.batch_size)]
        embedded = torch.split(torch.cat([self.embed(batch) for batch in batches]), [len(values) for values in inputs])
        cosines = [
            (rows @ self.embed_text(sample.prompt)).mean() for rows, sample in zip(embedded, samples, strict=True)
        ]
        return [max(float(cosine), 0.0) for cosine in cosines]

    def embed_text(self, prompt: str) -> Tensor:
        """Return the normalised embedding (c,) of a prompt, which is cached. Long prompts are truncated."""
        if prompt not in self._texts:
            length = self.model.config.text_config.max_position_embeddings - self.reserved_positions
            tokens = self._tokenizer([prompt], truncation=True, max_length=length, return_tensors="pt")
            features = self.model.get_text_features(
                input_ids=tokens.input_ids.to(self.model.device),
                attention_mask=tokens.attention_mask.to(self.model.device),
            ).pooler_output
            self._texts[prompt] = normalize(features, dim=-1)[0]
        return self._texts[prompt]
