"""What a sharpness rule costs: `python benchmarks/sharpness.py` prints the table of benchmarks/README.md.

Per rule, counted and timed in one run:

- gradient evaluations per step (`mesa`'s second forward pass is none, and takes time);
- time per step on the demo (its CLIP, all classes of one task, image features computed beforehand, batches of 32),
  relative to `none`: rules take turns, an epoch each, and the median over the rounds counts;
- the share of a step that is not gradient evaluations (flatten, perturb, restore, record) with a text tower of
  ViT-B/32's size, random weights and 100 classes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from hf_sharp_prompt import CLIPPromptConfig, objectives, sharpness
from hf_sharp_prompt.demo import CLIP_PATH, DEFAULT_TASK, UNFAMILIAR_TASKS
from hf_sharp_prompt.objectives import Batch, ObjectiveSum, sharpness_aware_names
from hf_sharp_prompt.sharpness import Backward
from hf_sharp_prompt.sharpness.rule import SampleMask


BATCH_SIZE = 32
STEPS_PER_EPOCH = 10  # a whole number of looksam's cycles of five
HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "imbsam": {"tail_classes": range(36, 72)},
    "focalsam": {"class_counts": range(100, 0, -1)},
    "saf": {"start": 0, "epochs_ago": 1},
    "mesa": {"start": 0},
}
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}

Samples = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Cost:
    """What steps cost: seconds until the direction is there, those of gradient evaluations, and their number."""

    seconds: float = 0.0
    in_evaluations: float = 0.0
    evaluations: int = 0

    @property
    def share_of_bookkeeping(self) -> float:
        return 1 - self.in_evaluations / self.seconds


class Run:
    """Training with one rule, an epoch at a time."""

    def __init__(self, rule: str, model: PeftModel) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(
            [parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.002, momentum=0.9
        )
        hyperparameters, added = HYPERPARAMETERS.get(rule, {}), rule in sharpness_aware_names()
        self.objectives = ObjectiveSum([objectives.create(rule, **hyperparameters)] if added else [])
        self.sharp = sharpness.SharpnessAware(
            sharpness.create("none") if added else sharpness.create(rule, **hyperparameters),
            model.parameters(),
            optimizer=self.optimizer,
        )

    def epoch(self, batches: list[Samples]) -> Cost:
        """Train on the batches, a step each; the optimizer's own time does not count."""
        cost = Cost()
        for number, (features, labels) in enumerate(batches):
            index = torch.arange(len(labels)) + number * BATCH_SIZE

            def backward_pass(sample_mask: SampleMask | None, batch=(features, labels, index)) -> Backward:
                features, labels, index = batch
                started = perf_counter()
                output = self.model(image_features=features)
                losses = cross_entropy(output.logits, labels, reduction="none")
                loss = (losses if sample_mask is None else losses * sample_mask(labels)).mean()
                loss = loss + self.objectives.term(
                    Batch(self.model, {"image_features": features}, output, labels, index)
                )
                loss.backward()
                cost.in_evaluations += perf_counter() - started
                cost.evaluations += 1
                return Backward(loss.detach())

            started = perf_counter()
            self.objectives.begin_step(self.model, self.sharp.epoch)
            self.sharp.accumulate_direction(backward_pass)
            cost.seconds += perf_counter() - started
            self.optimizer.step()
            started = perf_counter()
            self.objectives.end_step(self.model)
            cost.seconds += perf_counter() - started
            self.optimizer.zero_grad()
        self.sharp.epoch += 1
        return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each rule on the demo")
    parser.add_argument("--large_steps", type=int, default=2, help="steps of each rule at ViT-B/32's size")
    parser.add_argument("--small", action="store_true", help="one tiny text tower for both, to see that it runs")
    args = parser.parse_args()
    rules = ["none", *sorted({*sharpness.names(), *sharpness_aware_names()} - {"none"})]
    processor = AutoProcessor.from_pretrained(CLIP_PATH)

    large, large_batches = vit_b32_size(processor.tokenizer, SMALL if args.small else {})
    model, batches = (large, large_batches) if args.small else demo(processor)
    runs = {rule: Run(rule, model) for rule in rules}
    for run in runs.values():  # whatever happens only once
        run.epoch(batches[:1])
        run.sharp.epoch, run.sharp.rule.state = 0, {}
        run.objectives.load_state_dict({})
    costs: dict[str, list[Cost]] = {rule: [] for rule in rules}
    for _ in range(args.rounds):
        for rule, run in runs.items():
            costs[rule].append(run.epoch(batches))

    Run("none", large).epoch(large_batches[:1])
    large_costs = {rule: Run(rule, large).epoch(large_batches[: args.large_steps]) for rule in rules}

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32\n")
    print("| rule | gradient evaluations per step | time per step | bookkeeping at ViT-B/32's size |")
    print("|---|---|---|---|")
    plain = median(cost.seconds for cost in costs["none"])
    for rule in rules:
        evaluations = sum(cost.evaluations for cost in costs[rule]) / args.rounds / STEPS_PER_EPOCH
        ratio = median(cost.seconds for cost in costs[rule]) / plain
        print(f"| `{rule}` | {evaluations:g} | {ratio:.2f} | {large_costs[rule].share_of_bookkeeping:.2%} |")
    step, large_step = plain / STEPS_PER_EPOCH, large_costs["none"].seconds / args.large_steps
    print(f"\nA step of `none` takes {1000 * step:.1f} ms on the demo and {large_step:.2f} s at ViT-B/32's size.")


def demo(processor: ProcessorMixin) -> tuple[PeftModel, list[Samples]]:
    """The demo's CLIP with a prompt, and an epoch of image features of its default task."""
    task = UNFAMILIAR_TASKS[DEFAULT_TASK]
    clip = CLIPModel.from_pretrained(CLIP_PATH).eval()
    images, labels = task.images("train", per_class=5)
    with torch.no_grad():
        pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
        features = clip.get_image_features(pixels).pooler_output
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return with_prompt(clip, list(task.classes), processor.tokenizer), list(
        split(features[order], torch.tensor(labels)[order])
    )


def vit_b32_size(tokenizer: PreTrainedTokenizerBase, text: dict[str, int]) -> tuple[PeftModel, list[Samples]]:
    """A random CLIP with ViT-B/32's text tower and hardly any image tower, 100 classes and image features of noise.

    `text` is what of its text tower is other than that.
    """
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config={**ids, **text}, vision_config=small, projection_dim=512)).eval()
    classes = sorted({name for task in UNFAMILIAR_TASKS.values() for name in task.classes})[:100]
    features = torch.randn(STEPS_PER_EPOCH * BATCH_SIZE, 512)
    return with_prompt(clip, classes, tokenizer), list(split(features, torch.arange(len(features)) % len(classes)))


def with_prompt(clip: CLIPModel, classes: list[str], tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    model = get_peft_model(clip, CLIPPromptConfig(num_text_tokens=4))
    model.set_classes(classes, tokenizer, "{}.")
    return model


def split(features: torch.Tensor, labels: torch.Tensor) -> Iterator[Samples]:
    return zip(features.split(BATCH_SIZE)[:STEPS_PER_EPOCH], labels.split(BATCH_SIZE))


if __name__ == "__main__":
    main()
