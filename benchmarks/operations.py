"""What a training step computes: `python benchmarks/operations.py` prints the table of benchmarks/README.md.

Operations are counted, not timed: the demo's CLIP and ViT, images as pixels, the second step of a Trainer's run. For
each design and rule the columns are

- MFLOP: those of all products of matrices, forward and backward;
- images, texts: how often the vision and the text tower run;
- embedded: how often images are turned into patches;
- couplings: how often a projection from text to vision tokens runs;
- texts read: how often the tokenizer is called.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import get_peft_model
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoProcessor, AutoTokenizer, CLIPModel, PrinterCallback, TrainerCallback, ViTModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from hf_sharp_prompt import CLIPPromptConfig, SharpPromptTrainer, SharpPromptTrainingArguments, ViTPromptConfig
from hf_sharp_prompt.demo import CLIP_PATH, VIT_PATH


COLOURS = ("red", "blue", "green", "yellow", "grey", "pink")
SHAPES = ("circle", "heart", "star", "ring", "moon", "cross")
CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
DEEP = {"text_depth": 4, "vision_depth": 4}
CLIP_DESIGNS: dict[str, CLIPPromptConfig] = {
    "coop": CLIPPromptConfig(num_text_tokens=4),
    "vpt_shallow": CLIPPromptConfig(num_text_tokens=0, num_vision_tokens=4),
    "vpt": CLIPPromptConfig(num_text_tokens=0, num_vision_tokens=8, vision_depth=4),
    "ivlp": CLIPPromptConfig(num_text_tokens=2, num_vision_tokens=2, **DEEP),
    "maple": CLIPPromptConfig(num_text_tokens=2, num_vision_tokens=2, coupled=True, **DEEP),
    "promptsrc": CLIPPromptConfig(num_text_tokens=4, num_vision_tokens=4, **DEEP),
    "cocoop": CLIPPromptConfig(num_text_tokens=4, conditional=True),
}
VIT_DESIGNS: dict[str, ViTPromptConfig] = {
    "vit, shallow": ViTPromptConfig(num_tokens=10, depth=1, class_names=CLASSES),
    "vit, deep": ViTPromptConfig(num_tokens=10, depth=None, class_names=CLASSES),
}
OBJECTIVES = {"promptsrc": {"promptsrc": {}}}
RULES = ("none", "sam")


class Operations:
    """Counts what happens within its block.

    Args:
        model: The model whose modules are counted.

    Attributes:
        calls: How often each module ran, by its name.
        flops: Floating-point operations in products of matrices.
        tokenizations: How often a tokenizer was called.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.calls: Counter[str] = Counter()
        self.flops = self.tokenizations = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        def count_call(module: nn.Module, args: Any) -> None:
            if module in self.names:
                self.calls[self.names[module]] += 1

        tokenizer: Any = PreTrainedTokenizerBase
        tokenize = tokenizer.__call__

        def count_tokenization(*args: Any, **kwargs: Any) -> Any:
            self.tokenizations += 1
            return tokenize(*args, **kwargs)

        hook = register_module_forward_pre_hook(count_call)
        tokenizer.__call__ = count_tokenization
        try:
            with FlopCounterMode(display=False) as flops:
                yield
        finally:
            hook.remove()
            tokenizer.__call__ = tokenize
        self.flops += flops.get_total_flops()

    def runs(self, *endings: str) -> int:
        """How often the modules ran whose names end so."""
        return sum(count for name, count in self.calls.items() if name.endswith(endings))


class CountsAStep(TrainerCallback):
    """Counts the operations of a run's second step."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            self.counting = self.operations.counted()
            self.counting.__enter__()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            self.counting.__exit__(None, None, None)


def make_model(design: str) -> Any:
    """Make the demo's CLIP or ViT with prompts of a design."""
    torch.manual_seed(0)
    if design in VIT_DESIGNS:
        return get_peft_model(ViTModel.from_pretrained(VIT_PATH, add_pooling_layer=False), VIT_DESIGNS[design])
    model = get_peft_model(CLIPModel.from_pretrained(CLIP_PATH), CLIP_DESIGNS[design])
    model.set_classes(CLASSES, AutoTokenizer.from_pretrained(CLIP_PATH), "a photo of a {}.")
    return model


def count_step(design: str, rule: str, batch: int) -> Operations:
    """Count the operations of a step with the Trainer."""
    model = make_model(design)
    operations = Operations(model)
    generator = torch.Generator().manual_seed(0)
    images = [
        {"pixel_values": pixels, "labels": torch.tensor(index % len(CLASSES))}
        for index, pixels in enumerate(torch.randn(2 * batch, 3, 48, 48, generator=generator))
    ]
    with tempfile.TemporaryDirectory() as directory:
        arguments = SharpPromptTrainingArguments(
            directory,
            sharpness=rule,
            objectives=OBJECTIVES.get(design),
            per_device_train_batch_size=batch,
            max_steps=2,
            optim="sgd",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = SharpPromptTrainer(
            model,
            arguments,
            train_dataset=images,
            processing_class=AutoProcessor.from_pretrained(CLIP_PATH),
            callbacks=[CountsAStep(operations)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--designs", nargs="*", default=[*CLIP_DESIGNS, *VIT_DESIGNS])
    args = parser.parse_args()
    print(f"{len(CLASSES)} classes, batches of {args.batch}\n")
    print("| design | rule | MFLOP | images | texts | embedded | couplings | texts read |")
    print("|---|---|---|---|---|---|---|---|")
    for design in args.designs:
        for rule in RULES:
            operations = count_step(design, rule, args.batch)
            counts = " | ".join(map(str, passes(operations)))
            print(f"| `{design}` | {rule} | {operations.flops / 1e6:.0f} | {counts} |")


def passes(operations: Operations) -> list[int]:
    """Return how often each tower ran, patches and vision tokens were made, and texts were read."""
    first_layers = ("vision_model.encoder.layers.0", "model.layers.0"), ("text_model.encoder.layers.0",)
    patches = ("patch_embedding", "patch_embeddings")
    couplings = sum(count for name, count in operations.calls.items() if "clip_prompt_coupling.default." in name)
    towers = [operations.runs(*names) for names in first_layers]
    return [*towers, operations.runs(*patches), couplings, operations.tokenizations]


if __name__ == "__main__":
    main()
