"""Tiny random CLIP and CLAP models in the layouts of transformers."""

from __future__ import annotations

from pathlib import Path

import torch

from its_plugins.random_weights import stable_diffusion as sd


def clip(folder: Path, *, seed: int = 0) -> Path:
    """Write a CLIP model for 32 x 32 pixels, and return the folder."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = sd.write_tokenizer(folder)
    tokens = {"vocab_size": len(vocabulary), "bos_token_id": vocabulary[sd.START], "eos_token_id": vocabulary[sd.END]}
    config = CLIPConfig(
        text_config=sd.TRANSFORMER | tokens,
        vision_config=sd.TRANSFORMER | {"image_size": 32, "patch_size": 8},
        projection_dim=8,
        initializer_factor=10.0,  # so that embeddings differ without training
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def clap(folder: Path, *, seed: int = 0) -> Path:
    """Write a CLAP model for sounds of one second, and return the folder."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sd.byte_letters()]
    sd.write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    sd.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "model_max_length": 77})
    config = ClapConfig(
        text_config=sd.TRANSFORMER | {"vocab_size": len(tokens), "max_position_embeddings": 80, "projection_dim": 8},
        audio_config={
            "spec_size": 64,
            "num_mel_bins": 16,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "hidden_size": 16,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "window_size": 4,
            "projection_dim": 8,
        },
        projection_dim=8,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        model = ClapModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)  # so that embeddings differ without training
        model.save_pretrained(folder)
    ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc").save_pretrained(folder)
    return folder
