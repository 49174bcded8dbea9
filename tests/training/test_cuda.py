"""What only a GPU can show: CUDA graphs, loss scaling, memory, and that no step waits."""

import pytest
import torch
from peft import get_peft_model
from training.small_runs import make_data, make_model, make_trainer, prompt_of
from transformers import CLIPConfig, CLIPModel

from hf_sharp_prompt import CLIPPromptConfig, sharpness


DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device."),
]


def make_cuda_trainer(output_dir, **arguments):
    data = make_data(dtype=torch.float32)
    return make_trainer(output_dir, make_model(torch.float32), data, use_cpu=DEVICE == "cpu", **arguments)


def train(output_dir, **arguments) -> torch.Tensor:
    trainer = make_cuda_trainer(output_dir, **arguments)
    trainer.train()
    return prompt_of(trainer.model).cpu()


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_with_cuda_graphs_it_trains_the_same_prompts(tmp_path, micro_batches):
    """A graph writes its outputs to the same place each time; what is kept of an evaluation has to be a copy."""
    arguments = {"sharpness": "gcsam", "gradient_accumulation_steps": micro_batches}
    arguments["per_device_train_batch_size"] = 6 // micro_batches
    plain = train(tmp_path / "plain", **arguments)
    graphs = train(tmp_path / "graphs", torch_compile=True, torch_compile_mode="reduce-overhead", **arguments)
    torch.testing.assert_close(graphs, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_sam_goes_the_same_way(tmp_path, precision):
    """Under autocast; in float16 the losses of both evaluations are scaled, and the direction is that of SAM."""
    before = prompt_of(make_model(torch.float32))
    single = train(tmp_path / "single") - before
    half = train(tmp_path / precision, **{precision: True}) - before
    assert half.isfinite().all()
    assert torch.cosine_similarity(half.flatten(), single.flatten(), dim=0) > 0.99


def test_a_step_does_not_wait_for_the_device(tmp_path, monkeypatch):
    """Each wait leaves the device idle until Python has caught up."""
    trainer = make_cuda_trainer(tmp_path, sharpness="sam")
    take_step = trainer.training_step

    def watch(*args):
        torch.cuda.set_sync_debug_mode("error" if trainer.state.global_step > 0 else "default")
        try:
            return take_step(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer, "training_step", watch)
    trainer.train()
    assert trainer.state.global_step > 1


def test_a_step_with_the_classes_of_imagenet_takes_less_than_4_gib():
    """1000 classes and 16 context tokens at ViT-B/16's size, from image features, in float32."""
    classes, sos, eos = 1000, 49406, 49407
    vision = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"bos_token_id": sos, "eos_token_id": eos}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
    names = [f"class {index}" for index in range(classes)]
    texts = [[sos, *range(index, index + 1 + index % 4), 269, eos] for index in range(classes)]
    config = CLIPPromptConfig(num_text_tokens=16, class_names=names, class_token_ids=texts)
    model = get_peft_model(clip, config).to(DEVICE)
    features, labels = torch.randn(32, 512, device=DEVICE), torch.arange(32, device=DEVICE)
    sharp = sharpness.SharpnessAware(sharpness.create("sam"), model)
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    sharp.backward(lambda: model(image_features=features, labels=labels).loss)
    assert torch.cuda.max_memory_allocated() - held < 4 * 2**30
