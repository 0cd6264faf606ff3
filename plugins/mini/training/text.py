"""Train the pack's text encoder, a tiny CLIP text model with orthogonal classes, before the diffusion models.

Shapes used here: b batch, l token positions (24), c channels (128).

The hidden states from the end token on, padding included, are regressed to the class's row of a Hadamard code. Rows are
orthogonal, and these positions are most of the input of cross-attention. When trained by the denoising loss instead,
the embeddings of tiger, kitten and dog were nearly equal (cosine 0.998).
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.linalg import hadamard
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import CONCEPTS, Kind, caption, captions
from its_plugins.random_weights.stable_diffusion import byte_letters

POSITIONS, CHANNELS = 24, 128
EMPTY = ("empty", "")

# Words without a meaning for the pack, inserted into captions to train the encoder to ignore unknown words.
FILLER = """
beautiful old small big dark bright famous lonely happy wild quiet loud very some many several the
in on with near under night morning winter summer sky river city village street detailed drawing
sketch pencil ink monochrome black white background style photo picture art print recording noise
close far behind
""".split()  # noqa: SIM905


def targets_by_class() -> dict[tuple[str, str], Tensor]:
    """Return the target (c,) of each class, with entries of 1 and -1; ("empty", "") is the unconditional class."""
    code = torch.from_numpy(hadamard(CHANNELS)).float()
    names: list[tuple[str, str]] = [EMPTY, *((kind, name) for kind in CONCEPTS for name in CONCEPTS[kind])]
    return {name: code[row + 1] for row, name in enumerate(names)}  # layer norm removes row 0, a constant


def build_tokenizer(merges: int = 420) -> CLIPTokenizer:
    """Learn a byte-pair encoding from the captions. Unknown text falls back to bytes."""
    words: Counter[str] = Counter(FILLER)
    for kind in CONCEPTS:
        for name in CONCEPTS[kind]:
            for text in captions(kind, name):
                words.update(re.findall(r"[^\W\d_]+|\d|[^\s\w]+", text.lower()))
    spelled = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    pair_merges: list[tuple[str, str]] = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        pair_merges.append(best)
        spelled = {word: _merge(parts, best) for word, parts in spelled.items()}
    letters = byte_letters()
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in pair_merges)]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: index for index, symbol in enumerate(dict.fromkeys(symbols))}
    return CLIPTokenizer(vocab=vocabulary, merges=pair_merges, model_max_length=POSITIONS)


def _merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def build_model(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build an untrained text model of 0.4 M parameters."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=CHANNELS,
        intermediate_size=2 * CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        projection_dim=CHANNELS,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def tokens(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Tokenize prompts to ids (b, l), padded with the end token as in Stable Diffusion."""
    return tokenizer(
        prompts, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt"
    ).input_ids


def embed(model: CLIPTextModel, tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Encode prompts to hidden states (b, l, c), the input of the UNets' cross-attention."""
    with torch.no_grad():
        return model(tokens(tokenizer, prompts))[0]


def draw_example(rng: random.Random) -> tuple[tuple[str, str], str]:
    """Draw a random class and a caption of it, half of them with meaningless words inserted."""
    if rng.random() < 0.06:
        return EMPTY, "" if rng.random() < 0.7 else " ".join(_filler(rng) for _ in range(rng.randint(1, 5)))
    kind: Kind = rng.choice(["visual", "audio"])
    name = rng.choice(list(CONCEPTS[kind]))
    text = caption(kind, name, rng)
    if rng.random() < 0.5:
        parts = text.split()
        for _ in range(rng.randint(1, 3)):
            parts.insert(rng.randint(0, len(parts)), _filler(rng))
        text = " ".join(parts)
    return (kind, name), text


def _filler(rng: random.Random) -> str:
    """Draw a meaningless word: a common one, or random letters."""
    if rng.random() < 0.5:
        return rng.choice(FILLER)
    return "".join(rng.choice("etaoinsrhdlucmfywgpbvk") for _ in range(rng.randint(2, 9)))


def train(
    model: CLIPTextModel, tokenizer: CLIPTokenizer, *, steps: int, log: Callable[[dict], None], seed: int = 0
) -> None:
    """Regress the hidden states from the end token on to the target of the class."""
    rng, targets = random.Random(seed), targets_by_class()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(1, steps + 1):
        names, texts = zip(*(draw_example(rng) for _ in range(64)), strict=True)
        ids = tokens(tokenizer, list(texts))
        target = torch.stack([targets[name] for name in names])[:, None]
        after = ((ids == tokenizer.eos_token_id).cumsum(1) > 0).float()[..., None]
        hidden = model(ids)[0]
        objective = ((hidden - target).square() * after).sum() / (after.sum() * CHANNELS)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            log({"stage": "text", "step": step, "loss": objective.item()})
    model.eval()


def nearest(model: CLIPTextModel, tokenizer: CLIPTokenizer, prompts: list[str]) -> list[tuple[str, str]]:
    """Return the class whose target is nearest to the last hidden state of each prompt."""
    targets = targets_by_class()
    names, table = list(targets), torch.stack(list(targets.values()))
    last = embed(model, tokenizer, prompts)[:, -1]
    return [names[int(index)] for index in torch.cdist(last, table).argmin(1)]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer, also as `vocab.json` and `merges.txt` for older versions of transformers."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
