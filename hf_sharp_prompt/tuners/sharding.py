"""A model's frozen layers, sharded over processes by FSDP2: for towers that are larger than one device."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from ..compat.accelerate import find_fsdp_settings


def place_model(model: nn.Module, device: torch.device) -> None:
    """Put a model where it is computed: on the device or, under `accelerate launch --use_fsdp`, on all of them.

    A model that is sharded already stays as it is.

    Args:
        model: The model.
        device: The process's device.

    Raises:
        ValueError: FSDP 1, or settings of the launcher that have no meaning here; and as `shard_frozen_layers`.
    """
    settings = find_fsdp_settings()
    if is_sharded(model):
        return
    if settings is None:
        model.to(device)
        return
    if settings.fsdp_version != 2:
        raise ValueError(
            "FSDP 1 flattens frozen and trained parameters into one; launch with --fsdp_version 2 beside --use_fsdp."
        )
    if settings.activation_checkpointing:
        raise ValueError(
            "--fsdp_activation_checkpointing wraps the layers that prompts enter; leave it out and set "
            "gradient_checkpointing=True."
        )
    shard_frozen_layers(
        model,
        device,
        reshard_after_forward=bool(settings.reshard_after_forward),
        offload_policy=settings.cpu_offload or None,
    )


def place_original(model: nn.Module, device: torch.device) -> None:
    """Put a model, of which copies are made that share its memory, on the device.

    Under `accelerate launch --use_fsdp` it stays where it was loaded, and each copy that is placed is sharded.

    Args:
        model: The model.
        device: The process's device.
    """
    if find_fsdp_settings() is None:
        model.to(device)


def shard_frozen_layers(
    model: nn.Module,
    device: torch.device,
    *,
    reshard_after_forward: bool = True,
    offload_policy: OffloadPolicy | None = None,
) -> None:
    """Shard a model's frozen layers over all processes, in place.

    Every process holds a part of each layer and gathers the layer while it runs (FSDP2). Everything else is
    replicated: prompts and whatever else trains, and what stands outside the layers, such as embeddings and
    projections. All processes get the values of the first. A rule and the optimizer meet ordinary tensors.

    From then on the processes must call the same layers in the same order, in evaluation as well, since each call
    gathers a layer from all of them. Do not give the model to `Accelerator.prepare`: the optimizer alone is enough.

    Args:
        model: A model of transformers, with its adapters. Layers in which something trains are replicated.
        device: The process's device.
        reshard_after_forward: Whether a layer is dropped after its forward pass and gathered again for the backward
            pass; otherwise all layers are whole between the two.
        offload_policy: `torch.distributed.fsdp.CPUOffloadPolicy()` keeps the parts in the CPU's memory.

    Raises:
        ValueError: One process alone; a model that is sharded already, has no frozen layer, or is quantised.

    Example:
        ```py
        >>> model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=4))
        >>> shard_frozen_layers(model, accelerator.device)
        >>> sharp = SharpnessAware(create("sam"), model, accelerator)
        ```
    """
    if not dist.is_initialized():
        raise ValueError(
            "Layers are sharded over processes, and there is one alone; start several with `accelerate launch`."
        )
    if is_sharded(model):
        raise ValueError("The model's layers are sharded already; do it once.")
    layers = _find_frozen_layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no frozen layer to shard; use plain data parallelism.")
    mesh, offload_policy = init_device_mesh(device.type, (dist.get_world_size(),)), offload_policy or OffloadPolicy()
    for layer in layers:
        _take_from_first_process(layer, device)
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward, offload_policy=offload_policy)
    _take_from_first_process(model, device)
    _prepare_for_any_order(layers, mesh)
    for module in model.modules():
        in_a_row = [child for child in module.children() if isinstance(child, FSDPModule)]
        for layer, following in pairwise(in_a_row):
            layer.set_modules_to_forward_prefetch([following])


def is_sharded(model: nn.Module) -> bool:
    """Tell whether layers of a model are sharded over processes."""
    return has_sharded(model.modules())


def has_sharded(modules: Iterable[object]) -> bool:
    """Tell whether one of these modules is sharded over processes."""
    return any(isinstance(module, FSDPModule) for module in modules)


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor from all processes, all of which must call this, if it is sharded."""
    return cast(DTensor, tensor).full_tensor() if isinstance(tensor, DTensor) else tensor


def least_of_all(value: int, device: torch.device) -> int:
    """Return the least value that a process has; all of them must call this."""
    least = torch.tensor(value, device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def _find_frozen_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers in which nothing trains, in the model's order.

    Raises:
        ValueError: The layers are quantised.
    """
    layers: list[nn.Module] = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer)
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]
    if any(not parameter.is_floating_point() for layer in layers for parameter in layer.parameters()):
        raise ValueError("FSDP2 shards floating-point weights, and these are quantised; load the model without.")
    return layers


@torch.no_grad()
def _take_from_first_process(module: nn.Module, device: torch.device) -> None:
    """Put what is not sharded on the device, with the values of the first process."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if not isinstance(parameter, DTensor):
                placed = _place(parameter, device)
                dist.broadcast(placed, src=0)
                setattr(part, name, nn.Parameter(placed, requires_grad=parameter.requires_grad))
        for name, buffer in list(part.named_buffers(recurse=False)):
            placed = _place(buffer, device)
            dist.broadcast(placed, src=0)
            setattr(part, name, placed)


def _place(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on the device; without values where the process has not loaded them."""
    placed = torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.detach().to(device)
    return placed.contiguous()


class _Layers(nn.Module):
    """Holds layers, and computes nothing."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self) -> None:
        """Compute nothing."""


def _prepare_for_any_order(layers: list[nn.Module], mesh: DeviceMesh) -> None:
    """Let layers be called in any order, without a call of the model that holds them.

    FSDP2 takes the first module that it sees in a forward pass for the root, and refuses to meet a module around it
    later. Texts and images are encoded apart, and by other methods than the model's forward, so the root is one that
    only holds the layers.
    """
    root = _Layers(layers)
    fully_shard(root, mesh=mesh)
    root()
