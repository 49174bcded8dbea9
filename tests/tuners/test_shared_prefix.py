"""Texts behind a shared prefix have the features and gradients that the tower computes for each, padded."""

import copy
import pickle
import threading
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.autograd import grad, gradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    CLIPSegConfig,
    CLIPSegModel,
    CLIPTextConfig,
    CLIPTextModel,
    MetaClip2Config,
    MetaClip2Model,
    Owlv2Config,
    Owlv2Model,
    OwlViTConfig,
    OwlViTModel,
)

from hf_sharp_prompt.tuners import shared_prefix
from hf_sharp_prompt.tuners.shared_prefix import encode_shared_prefix, restore_attention, route_attention


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 99,
    "max_position_embeddings": 24,
    "bos_token_id": 97,
    "eos_token_id": 98,
    "pad_token_id": 98,
}
FAMILIES = {
    "clipseg": (CLIPSegConfig, CLIPSegModel),
    "metaclip_2": (MetaClip2Config, MetaClip2Model),
    "owlvit": (OwlViTConfig, OwlViTModel),
    "owlv2": (Owlv2Config, Owlv2Model),
}
EOS = SIZES["eos_token_id"]
MIXED = [[5, 6, EOS], [7, EOS], [EOS], [8, 9, 10, 11, 12, 13, 14, 15, 16, EOS], [17, EOS], [18, 19, EOS]]
TEXTS = {
    "mixed lengths": MIXED,
    "equal lengths": [[20 + i, 30 + i, EOS] for i in range(5)],
    "one text": [[5, 6, 7, EOS]],
}
N = 4


def a_tower(dtype: torch.dtype = torch.float64, attention: str = "sdpa", **config: object) -> CLIPTextModel:
    tower = CLIPTextModel(CLIPTextConfig(**{**SIZES, **config}, attn_implementation=attention))
    return enlarged(tower).to(dtype)


def a_routed_tower(*args: object, **config: object) -> CLIPTextModel:
    tower = a_tower(*args, **config)
    route_attention(tower)
    return tower


def enlarged(tower: nn.Module) -> nn.Module:
    """With weights so large that attention and positions matter, and none that train."""
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            parameter.normal_(std=1.0 if "embedding" in name else 0.25)
    return tower.eval().requires_grad_(False)


def a_prefix(*images: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*images, 1 + N, SIZES["hidden_size"], dtype=dtype).requires_grad_()


def deep_prompts(depth: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(depth - 1, N, SIZES["hidden_size"], dtype=dtype).requires_grad_()


def padded_features(
    tower: nn.Module, prefix: torch.Tensor, texts: Sequence[Sequence[int]], deep: torch.Tensor | None = None
) -> torch.Tensor:
    """The tower's own forward of every text, padded to all positions, prompts put in place of what it embedded."""
    if prefix.dim() == 3:
        return torch.stack([padded_features(tower, one, texts, deep) for one in prefix])

    def embed(module: nn.Module, args: tuple, embedded: torch.Tensor) -> torch.Tensor:
        return torch.cat([prefix.expand(len(embedded), -1, -1), embedded[:, 1 + N :]], dim=1)

    def replace(prompts: torch.Tensor, args: tuple) -> tuple:
        states = args[0]
        return torch.cat([states[:, :1], prompts.expand(len(states), -1, -1), states[:, 1 + N :]], dim=1), *args[1:]

    length = tower.embeddings.position_embedding.num_embeddings
    padding = [[0] * (1 + N) + list(text) + [EOS] * (length - 1 - N - len(text)) for text in texts]
    ends = torch.tensor([N + len(text) for text in texts])
    with ExitStack() as hooks:
        hooks.enter_context(RemovedAfterwards(tower.embeddings.token_embedding.register_forward_hook(embed)))
        for layer, prompts in zip(tower.encoder.layers[1:], () if deep is None else deep):
            hook = layer.register_forward_pre_hook(lambda module, args, prompts=prompts: replace(prompts, args))
            hooks.enter_context(RemovedAfterwards(hook))
        states = tower(torch.tensor(padding)).last_hidden_state
    return states[torch.arange(len(texts)), ends]


class RemovedAfterwards:
    def __init__(self, handle: torch.utils.hooks.RemovableHandle) -> None:
        self.handle = handle

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.handle.remove()


def assert_same(
    tower: nn.Module,
    prefix: torch.Tensor,
    texts: Sequence[Sequence[int]],
    deep: torch.Tensor | None = None,
    tolerance: float = 1e-10,
    encode=encode_shared_prefix,
) -> None:
    """Features and gradients are those of `padded_features`; `tolerance` is relative to the largest value."""
    learned = [prefix] if deep is None else [prefix, deep]
    expected = padded_features(tower, prefix, texts, deep)
    actual = encode(tower, prefix, texts, deep)
    weights = torch.randn_like(expected)
    pairs = [
        (actual, expected),
        *zip(grad((actual * weights).sum(), learned), grad((expected * weights).sum(), learned)),
    ]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


class TestExactness:
    @pytest.mark.parametrize("images", [(), (1,), (3,)], ids=["one prefix", "one image", "three images"])
    @pytest.mark.parametrize("depth", [None, 2, 3], ids=lambda depth: f"depth {depth}")
    @pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
    def test_features_and_gradients_are_the_padded_ones(self, texts, depth, images):
        """Otherwise the fast path learns another prompt than the papers' code."""
        deep = None if depth is None else deep_prompts(depth)
        assert_same(a_routed_tower(), a_prefix(*images), texts, deep)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_so_for_the_text_towers_of_other_families(self, family):
        """Otherwise a prompt for OWL-ViT or CLIPSeg is silently wrong where CLIP's is right."""
        config, model = FAMILIES[family]
        small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        tower = model(config(text_config=SIZES, vision_config=small, projection_dim=16)).text_model
        route_attention(tower)
        assert_same(enlarged(tower).double(), a_prefix(), MIXED, deep_prompts(3))

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_so_in_single_precision_whatever_attention_the_user_chose(self, attention):
        tower = a_routed_tower(torch.float32, attention)
        assert_same(tower, a_prefix(dtype=torch.float32), MIXED, tolerance=1e-5)

    def test_so_whatever_token_the_config_says_ends_a_text(self):
        """OpenAI's checkpoints have the historical id 2 there; where texts end is known without it."""
        assert_same(a_routed_tower(eos_token_id=2), a_prefix(), MIXED)

    def test_a_prefix_without_context_is_the_model_itself(self):
        tower = a_routed_tower()
        sos = tower.embeddings.token_embedding(torch.tensor([SIZES["bos_token_id"]]))
        expected = tower(torch.tensor([[SIZES["bos_token_id"], 5, 6, EOS]])).pooler_output
        torch.testing.assert_close(encode_shared_prefix(tower, sos, [[5, 6, EOS]]), expected, rtol=0, atol=1e-12)

    def test_second_derivatives_are_right(self):
        """`sharpness.report` measures the curvature of the loss along the prompt."""
        tower, prefix = a_routed_tower(num_hidden_layers=2), a_prefix()
        direction = torch.randn_like(prefix)

        def curvature(encode) -> torch.Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                (slope,) = grad(encode(tower, prefix, MIXED).square().sum(), prefix, create_graph=True)
                return grad((slope * direction).sum(), prefix)[0]

        expected = curvature(padded_features)
        assert (curvature(encode_shared_prefix) - expected).abs().max() <= 1e-9 * expected.abs().max()

    def test_gradients_agree_with_finite_differences(self):
        tower = a_routed_tower(num_hidden_layers=2)
        weights = torch.randn(2, SIZES["hidden_size"], dtype=torch.float64)
        few = torch.tensor([1, 8, 3])

        def loss(values: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
            prefix = base.index_put((few, few), values)
            return (encode_shared_prefix(tower, prefix, MIXED[:2]) * weights).sum()

        few = torch.tensor([0, 2, 4])
        assert gradcheck(loss, (torch.randn(3, dtype=torch.float64, requires_grad=True), a_prefix().detach()))


class TestChunks:
    @pytest.mark.parametrize("images", [(), (3,)], ids=["one prefix", "three images"])
    @pytest.mark.parametrize("size", [1, 2, 4, 7, 12])
    def test_chunks_change_neither_features_nor_gradients(self, size, images):
        """Otherwise results depend on the memory of the machine."""

        def in_chunks(tower, prefix, texts, deep) -> torch.Tensor:
            return encode_shared_prefix(tower, prefix, texts, deep, class_chunk_size=size)

        assert_same(a_routed_tower(), a_prefix(*images), MIXED, deep_prompts(3), encode=in_chunks)

    def test_a_chunk_never_holds_more_prompts_than_asked_for(self, monkeypatch):
        """Otherwise the budget does not bound the memory."""
        held, encode = [], shared_prefix._encode
        monkeypatch.setattr(
            shared_prefix, "_encode", lambda t, p, texts, d: held.append(len(p) * len(texts)) or encode(t, p, texts, d)
        )
        for images in (1, 2, 5):
            for size in (1, 3, 6, 11, 13):
                encode_shared_prefix(a_routed_tower(), a_prefix(images), MIXED, class_chunk_size=size)
                assert max(held) <= size
                assert sum(held) == images * len(MIXED)
                held.clear()

    def test_scarce_memory_makes_chunks_by_itself(self, monkeypatch):
        """Otherwise a thousand classes times a batch of images run out of memory at the defaults."""
        encode, calls = shared_prefix._encode, []
        monkeypatch.setattr(shared_prefix, "_encode", lambda *args: calls.append(args) or encode(*args))
        tower, prefix = a_routed_tower(), a_prefix()
        plenty = encode_shared_prefix(tower, prefix, MIXED)
        assert len(calls) == 1
        monkeypatch.setattr(shared_prefix, "_free_memory", lambda device: 400_000)
        scarce = encode_shared_prefix(tower, prefix, MIXED)
        assert len(calls) > 2
        torch.testing.assert_close(scarce, plenty, rtol=0, atol=1e-12)

    def test_dropout_is_the_same_when_a_chunk_is_computed_again(self):
        """Otherwise the gradient is that of another function than the loss."""
        tower = a_routed_tower(attention_dropout=0.5).train()
        prefix = a_prefix()
        torch.manual_seed(0)
        features = encode_shared_prefix(tower, prefix, MIXED, class_chunk_size=2)
        (gradient,) = grad(features.sum(), prefix)
        nudge = 1e-6 * torch.randn_like(prefix)
        torch.manual_seed(0)
        nudged = encode_shared_prefix(tower, prefix.detach() + nudge, MIXED, class_chunk_size=2)
        torch.testing.assert_close((nudged - features).sum(), (gradient * nudge).sum(), rtol=1e-3, atol=1e-9)
        assert not torch.equal(features, encode_shared_prefix(tower, prefix, MIXED, class_chunk_size=2))


class TestTheTowersOwnLayersRun:
    @pytest.mark.parametrize("use_reentrant", [False, True])
    @pytest.mark.parametrize("chunk_size", [None, 2])
    def test_under_gradient_checkpointing(self, chunk_size, use_reentrant):
        """The layers run again in the backward pass, long after the call; attention must still be ours then."""
        tower = a_routed_tower().train()
        tower.gradient_checkpointing_enable({"use_reentrant": use_reentrant})

        def encode(tower, prefix, texts, deep) -> torch.Tensor:
            return encode_shared_prefix(tower, prefix, texts, deep, chunk_size)

        prefix, deep = a_prefix(), deep_prompts(3)
        learned = [prefix, deep]
        actual, plain = encode(tower, prefix, MIXED, deep), encode(copy.deepcopy(tower).eval(), prefix, MIXED, deep)
        torch.testing.assert_close(actual, plain, rtol=0, atol=1e-12)
        for mine, theirs in zip(backward(actual, learned), backward(plain, learned)):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("chunk_size", [None, 2])
    def test_without_gradients(self, mode, chunk_size):
        tower, prefix = a_routed_tower(), a_prefix()
        expected = padded_features(tower, prefix, MIXED)
        with mode():
            features = encode_shared_prefix(tower, prefix, MIXED, class_chunk_size=chunk_size)
        assert not features.requires_grad
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("chunk_size", [None, 2])
    def test_under_autocast(self, chunk_size):
        """Mixed precision has to reach the layers, also when a chunk is computed again outside of autocast."""
        tower = a_routed_tower(torch.float32)
        prefix = a_prefix(dtype=torch.float32)
        dtypes = []
        tower.encoder.layers[0].mlp.fc1.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = encode_shared_prefix(tower, prefix, MIXED, class_chunk_size=chunk_size)
        expected = encode_shared_prefix(tower, prefix, MIXED)
        (gradient,), (exact,) = backward(features, [prefix]), backward(expected, [prefix])
        assert dtypes.pop(-1 if chunk_size else 0) == torch.bfloat16
        assert (features - expected).abs().max() < 0.05 * expected.abs().max()
        assert (gradient - exact).norm() < 0.1 * exact.norm()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_with_a_base_in_half_precision_and_prompts_in_single(self, dtype):
        tower, prefix = a_routed_tower(torch.float32), a_prefix(dtype=torch.float32)
        expected = encode_shared_prefix(tower, prefix, MIXED)
        features = encode_shared_prefix(tower.to(dtype), prefix, MIXED)
        assert features.dtype == dtype
        assert (features - expected).abs().max() < 0.05 * expected.abs().max()

    @pytest.mark.parametrize("class_chunk_size", [None, len(MIXED)])
    def test_compiled(self, class_chunk_size):
        """In one graph: to look at the free memory in a call would break the graph, and hide the loss from fusing."""
        compiled = torch.compile(encode_shared_prefix, backend="aot_eager", fullgraph=True)

        def encode(tower, prefix, texts, deep) -> torch.Tensor:
            return compiled(tower, prefix, texts, deep, class_chunk_size=class_chunk_size)

        assert_same(a_routed_tower(num_hidden_layers=2), a_prefix(), MIXED, deep_prompts(2), encode=encode)

    def test_compiled_where_memory_is_scarce(self, monkeypatch):
        """Otherwise compiled code holds the activations of all classes at once, and runs out of memory."""
        monkeypatch.setattr(
            shared_prefix, "_free_memory", torch.compiler.assume_constant_result(lambda device: 400_000)
        )
        sizes, split = [], shared_prefix._split
        monkeypatch.setattr(shared_prefix, "_split", lambda texts, size: sizes.append(size) or split(texts, size))
        torch.compile(encode_shared_prefix, backend="eager")(a_routed_tower(), a_prefix(), MIXED)
        assert max(sizes) < len(MIXED)

    def test_hooks_see_every_layer(self):
        """Adapters on the tower's projections, Accelerate's offloading and probes work by hooks."""
        tower, seen = a_routed_tower(), []
        for name, module in tower.encoder.named_modules():
            if name:
                module.register_forward_hook(lambda module, args, output, name=name: seen.append(name))
        encode_shared_prefix(tower, a_prefix(), MIXED)
        leaves = {name for name, module in tower.encoder.named_modules() if not list(module.children())}
        assert leaves <= set(seen)
        assert {f"layers.{i}" for i in range(3)} | {f"layers.{i}.self_attn" for i in range(3)} <= set(seen)


class TestTheTowerStaysAsItWas:
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_its_own_forward_gives_the_same_bits(self, attention):
        """`disable_adapter` promises the base model bit for bit."""
        tower = a_tower(attention=attention)
        ids = torch.tensor([[97, 5, 6, EOS], [97, 7, EOS, EOS]])
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        before = tower(ids, mask).last_hidden_state
        attentions = tower(ids, mask, output_attentions=True).attentions if attention == "eager" else ()
        route_attention(tower)
        encode_shared_prefix(tower, a_prefix(), MIXED)
        assert torch.equal(tower(ids, mask).last_hidden_state, before)
        if attention == "eager":
            after = tower(ids, mask, output_attentions=True).attentions
            assert all(torch.equal(one, other) for one, other in zip(attentions, after, strict=True))

    def test_its_config_is_untouched_and_obeyed(self):
        tower = a_routed_tower()
        config, before = tower.config, tower.config.to_dict()
        encode_shared_prefix(tower, a_prefix(), MIXED)
        assert tower.config is config
        assert tower.config.to_dict() == before
        assert tower.config._attn_implementation == "sdpa"
        tower.set_attn_implementation("eager")
        assert tower(torch.tensor([[97, 5, EOS]]), output_attentions=True).attentions[0] is not None

    def test_it_stays_so_after_an_exception(self):
        tower = a_tower()
        ids = torch.tensor([[97, 5, 6, EOS]])
        before = tower(ids).last_hidden_state
        route_attention(tower)
        hook = tower.encoder.layers[1].register_forward_hook(lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encode_shared_prefix(tower, a_prefix(), MIXED)
        hook.remove()
        assert torch.equal(tower(ids).last_hidden_state, before)

    def test_restoring_leaves_no_trace(self):
        """`unload` promises the base model as it was."""
        tower = a_routed_tower()
        encode_shared_prefix(tower, a_prefix(), MIXED)
        restore_attention(tower)
        assert all(layer.self_attn.config is tower.config for layer in tower.encoder.layers)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda tower: pickle.loads(pickle.dumps(tower))])
    def test_copies_obey_their_own_config(self, copied):
        tower, prefix = a_routed_tower(), a_prefix()
        expected = encode_shared_prefix(tower, prefix, MIXED)
        other = copied(tower)
        other.set_attn_implementation("eager")
        assert tower(torch.tensor([[97, 5, EOS]])).last_hidden_state.dtype == torch.float64
        assert other(torch.tensor([[97, 5, EOS]]), output_attentions=True).attentions[0] is not None
        assert torch.equal(encode_shared_prefix(other, prefix, MIXED), expected)

    def test_threads_do_not_disturb_each_other(self):
        """A served model encodes prompts and plain texts at the same time."""
        tower, prefix = a_routed_tower(), a_prefix()
        ids = torch.tensor([[97, 5, 6, EOS]])
        expected = {True: encode_shared_prefix(tower, prefix, MIXED), False: tower(ids).last_hidden_state}
        wrong = []

        def serve(shared: bool) -> None:
            for _ in range(20):
                got = encode_shared_prefix(tower, prefix, MIXED) if shared else tower(ids).last_hidden_state
                if not torch.allclose(got, expected[shared], rtol=0, atol=1e-12):
                    wrong.append(shared)

        threads = [threading.Thread(target=serve, args=(shared,)) for shared in (True, False, True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def backward(features: torch.Tensor, learned: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of a loss, by `backward`, which reentrant checkpointing insists on."""
    for each in learned:
        each.grad = None
    weights = torch.randn(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(0))
    (features * weights).sum().backward()
    return [each.grad for each in learned]
