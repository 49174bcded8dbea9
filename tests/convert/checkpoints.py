"""Checkpoints as Dassl's trainers write them, of every design."""

from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from transformers import CLIPModel


NAMES = ["blue_heart", "red star", "cat"]  # as in Dassl's data sets, whose names may have underscores
TEXT, VISION, FEATURES, LAYERS = 32, 48, 24, 3  # of the towers, all different
StateDict = dict[str, torch.Tensor]


class ConstantWarmupScheduler(LRScheduler):
    """As Dassl's: what follows the warm-up is an attribute, and so a part of the state that is saved."""

    def __init__(self, optimizer: torch.optim.Optimizer, successor: LRScheduler) -> None:
        self.successor = successor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [1e-5 for _ in self.base_lrs]


def save(path: Path, state_dict: StateDict) -> Path:
    """As Dassl's `save_checkpoint`, after a step of SGD with momentum."""
    parameter = nn.Parameter(torch.ones(4, TEXT))
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    scheduler = ConstantWarmupScheduler(optimizer, CosineAnnealingLR(optimizer, 50.0))
    parameter.sum().backward()
    optimizer.step()
    scheduler.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "state_dict": state_dict,
            "epoch": 50,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "val_result": None,
        },
        path,
    )
    return path


def of_linear(name: str, inputs: int, outputs: int) -> StateDict:
    return {f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5, f"{name}.bias": torch.randn(outputs) / 4}


def coop(n: int = 4) -> StateDict:
    return {"ctx": torch.randn(n, TEXT)}


def class_specific() -> StateDict:
    return {"ctx": torch.randn(len(NAMES), 5, TEXT)}


def cocoop() -> StateDict:
    return coop() | of_linear("meta_net.linear1", FEATURES, 1) | of_linear("meta_net.linear2", 1, TEXT)


def maple(depth: int = 3, n: int = 2) -> StateDict:
    learned = {"ctx": torch.randn(n, TEXT)} | of_linear("proj", TEXT, VISION)
    for layer in range(depth - 1):
        learned[f"compound_prompts_text.{layer}"] = torch.randn(n, TEXT)
        learned |= of_linear(f"compound_prompt_projections.{layer}", TEXT, VISION)
    return {f"prompt_learner.{name}": tensor for name, tensor in learned.items()}


def vpt(depth: int = LAYERS, m: int = 4) -> StateDict:
    names = ["VPT", *(f"transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, depth))]
    return {f"image_encoder.{name}": torch.randn(m, VISION) for name in names}


def ivlp() -> StateDict:
    deep = {f"text_encoder.transformer.resblocks.{layer}.VPT_shallow": torch.randn(2, TEXT) for layer in (1, 2)}
    return {"prompt_learner.ctx": torch.randn(2, TEXT)} | deep | vpt(depth=2)


DESIGNS = {
    "coop": coop,
    "class_specific": class_specific,
    "cocoop": cocoop,
    "kgcoop": coop,
    "prograd": lambda: coop(16),
    "maple": maple,
    "shallow_maple": lambda: maple(depth=1),
    "vpt": vpt,
    "ivlp": ivlp,
}


def with_what_stands_still(design: str, learned: StateDict, clip: CLIPModel) -> StateDict:
    """The state dict that the design's trainer registers, with what is in it besides."""
    embeddings = clip.text_model.embeddings.token_embedding.weight.detach().to(next(iter(learned.values())).dtype)
    start = embeddings[clip.config.text_config.bos_token_id].expand(len(NAMES), 1, -1)
    around = {"token_prefix": start, "token_suffix": embeddings[:72].expand(len(NAMES), -1, -1)}
    if design == "kgcoop":
        around |= {"bias_vectors": torch.randn(1, TEXT)} | of_linear("meta_net.linear1", TEXT, TEXT)
    if any(name.startswith(("prompt_learner", "image_encoder")) for name in learned):
        whole = {"text_encoder.positional_embedding", "image_encoder.transformer.resblocks.0.attn.in_proj_weight"}
        around = {f"prompt_learner.{name}": tensor for name, tensor in around.items() if design != "vpt"}
        around |= {name: torch.randn(3) for name in whole | {"image_encoder.proj", "logit_scale"}}
    return around | learned
