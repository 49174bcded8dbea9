"""The embeddings of an adapter's classes: all that classifies images besides the base model's own image tower."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import normalize

from ..files import written_whole
from ..tuners import CLIPPromptConfig
from ..tuners.clip_prompt import CLIPPromptModel
from .refusals import check_classifies


KIND = "zero-shot head"


@dataclass(frozen=True)
class ZeroShotHead:
    """The classes of a prompted CLIP as vectors, which need no text tower any more.

    `logits = logit_scale · normalize(image_embeds) @ class_embeddings.T + logit_bias`, with the `image_embeds` of the
    plain base model: the pooled output of `CLIPModel.get_image_features`, what `CLIPVisionModelWithProjection`
    returns, or open_clip's `encode_image` of the same checkpoint.

    Args:
        class_embeddings: Of length 1, classes × embedding width, in float32.
        logit_scale: What the cosines are multiplied by, after the exponential.
        logit_bias: What is added to them; 0 for all but SigLIP.
        class_names: The classes, in the order of the rows.
        template: The text around a class name.
        base_model: The Hub id or directory of the CLIP that the adapter was trained on.
    """

    class_embeddings: torch.Tensor
    logit_scale: float
    logit_bias: float
    class_names: list[str]
    template: str
    base_model: str

    @classmethod
    @torch.no_grad()
    def of(cls, model: PeftModel) -> ZeroShotHead:
        """Compute the head of the adapter and the classes that are active on a model.

        Args:
            model: A prompted CLIP whose classes are set.

        Raises:
            ValueError: No classes are set; a model that does not classify by texts, or an adapter whose classes have
                no embeddings of their own, or meet only images that pass its own image tower, with what to do instead.
        """
        check_classifies(model)
        config, tuner = model.active_peft_config, model.base_model
        if not isinstance(config, CLIPPromptConfig) or not isinstance(tuner, CLIPPromptModel):
            raise ValueError("The adapter has a head of its own, and no texts of classes; use write_onnx_classifier.")
        if config.num_vision_tokens:
            raise ValueError(
                f"The adapter has learned tokens in the image tower (num_vision_tokens={config.num_vision_tokens}), "
                "and its classes cannot be compared with the plain tower's images; use write_onnx_classifier."
            )
        if config.conditional:
            raise ValueError(
                "The adapter's context depends on the image (conditional), so that a class has another embedding for "
                "each; use write_onnx_classifier."
            )
        base = tuner.model
        embeddings = normalize(tuner.get_class_features().float(), dim=-1).cpu()
        bias = dict(base.named_parameters(recurse=False)).get("logit_bias")
        return cls(
            embeddings,
            logit_scale=float(base.logit_scale.exp()),
            logit_bias=0.0 if bias is None else float(bias),
            class_names=list(config.class_names or ()),
            template=config.class_template,
            base_model=str(config.base_model_name_or_path),
        )

    def logits(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Return images × classes from the features of images, images × embedding width, normalised or not."""
        embeddings = self.class_embeddings.to(image_embeds.device)
        return self.logit_scale * normalize(image_embeds.float(), dim=-1) @ embeddings.T + self.logit_bias

    def save(self, file: str | Path) -> None:
        """Write `class_embeddings`, `logit_scale` and `logit_bias` as safetensors, and the rest as their metadata.

        In the metadata `class_names` is a JSON list; `template` and `base_model` are texts.
        """
        self._write(file, {"class_embeddings": self.class_embeddings}, KIND)

    def save_for_open_clip(self, file: str | Path) -> None:
        """Write what open_clip's `build_zero_shot_classifier` returns, as safetensors.

        `zeroshot_weights` is embedding width × classes, each column of length 1, and is used as in open_clip's
        evaluation: `logits = logit_scale * model.encode_image(images, normalize=True) @ zeroshot_weights`. The file
        has `logit_scale`, after the exponential, `logit_bias`, and the metadata of [`save`].
        """
        self._write(file, {"zeroshot_weights": self.class_embeddings.T.contiguous()}, "open_clip zero-shot weights")

    @classmethod
    def load(cls, file: str | Path) -> ZeroShotHead:
        """Read what [`save`] wrote.

        Raises:
            ValueError: The file is no such head.
        """
        try:
            with safe_open(str(file), framework="pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no dict
            if metadata.get("kind") != KIND:
                raise KeyError("kind")
            return cls(
                tensors["class_embeddings"],
                logit_scale=float(tensors["logit_scale"]),
                logit_bias=float(tensors["logit_bias"]),
                class_names=json.loads(metadata["class_names"]),
                template=metadata["template"],
                base_model=metadata["base_model"],
            )
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{file} is incomplete or no zero-shot head ({type(error).__name__}: {error}); write it with "
                "ZeroShotHead.of(model).save(file)."
            ) from error

    def _write(self, file: str | Path, tensors: dict[str, torch.Tensor], kind: str) -> None:
        scalars = {"logit_scale": torch.tensor(self.logit_scale), "logit_bias": torch.tensor(self.logit_bias)}
        metadata = {
            "kind": kind,
            "class_names": json.dumps(self.class_names, ensure_ascii=False),
            "template": self.template,
            "base_model": self.base_model,
        }
        with written_whole(file) as path:
            save_file(tensors | scalars, path, metadata)
