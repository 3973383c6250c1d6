"""Folders with tiny random weights of every encoder, in the very formats the published ones come in."""

import string
from pathlib import Path

import torch
from torch import nn

from mmcse.video.encoders.clap import REPOSITORY
from mmcse.video.encoders.clip import CLIP
from mmcse.video.encoders.r2plus1d import R2Plus1D, R2Plus1DNetwork
from mmcse.video.encoders.resnet import ResNet, ResNet152
from mmcse.video.encoders.vggish import VGGish, VGGishNetwork

TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
DIMS = {"clip": 12, "clap": 64, "embedding": 10, "r2plus1d": 32, "resnet": 64, "vggish": 6}
"""C of each; "embedding" is what CLAP's two towers share."""


def write_tiny_weights(folder: Path, seed: int = 0) -> Path:
    """Everything that both feature sets need: `mmcse extract --weights FOLDER`."""
    torch.manual_seed(seed)
    write_tiny_clip(folder / CLIP.weights.file)
    write_tiny_clap(folder / REPOSITORY.file)
    for encoder, network in (
        (R2Plus1D, R2Plus1DNetwork(width=4, stem=3)),
        (ResNet152, ResNet((1, 1, 1, 1), width=2)),
        (VGGish, VGGishNetwork((2, 2, 3, 3, 4, 4), (8, 8, DIMS["vggish"]))),
    ):
        torch.save(shaken(network).state_dict(), folder / encoder.weights.file)
    return folder


def shaken(network: nn.Module) -> nn.Module:
    """The network with norms and biases that are not just ones and zeros."""
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith("running_var"):
            value.data.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.data.add_(0.1 * torch.randn_like(value))
    return network


def write_tiny_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    vocabulary = _vocabulary("<|startoftext|>", "<|endoftext|>", suffix="</w>")
    tower = {**TEXT, "projection_dim": DIMS["clip"]}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**tower, **ids, "vocab_size": len(vocabulary), "max_position_embeddings": 77},
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=DIMS["clip"],
    )
    shaken(CLIPModel(config)).save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(folder)


def write_tiny_clap(folder: Path) -> None:
    from transformers import ClapModel, RobertaTokenizer

    shaken(ClapModel(tiny_clap_config())).save_pretrained(folder)
    RobertaTokenizer(vocab=_clap_vocabulary(), merges=[], model_max_length=77).save_pretrained(folder)


def tiny_clap_config():
    from transformers import ClapConfig

    shared = {"projection_dim": DIMS["embedding"]}
    return ClapConfig(
        text_config={**TEXT, **shared, "vocab_size": len(_clap_vocabulary()), "max_position_embeddings": 80},
        audio_config={
            **shared,
            "enable_fusion": True,
            "patch_embeds_hidden_size": DIMS["clap"] // 8,
            "hidden_size": DIMS["clap"],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 2, 2],
        },
        **shared,
    )


def _clap_vocabulary() -> dict[str, int]:
    return _vocabulary("<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120")


def _vocabulary(*special: str, suffix: str = "") -> dict[str, int]:
    """Single characters, and no merges."""
    characters = string.ascii_letters + string.digits + string.punctuation
    words = dict.fromkeys([*special, *characters, *(f"{character}{suffix}" for character in characters)])
    return {word: number for number, word in enumerate(words)}
