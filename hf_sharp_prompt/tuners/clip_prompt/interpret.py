"""What a learned prompt says in words."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase


def nearest_tokens(
    vectors: torch.Tensor, vocabulary: torch.Tensor, tokenizer: PreTrainedTokenizerBase, count: int
) -> list[list[tuple[str, float]]]:
    """Return the vocabulary's tokens nearest to each vector, with their Euclidean distances, nearest first.

    Args:
        vectors: n × width.
        vocabulary: Token embeddings, vocabulary × width.
        tokenizer: What knows the tokens' names.
        count: Number of tokens per vector.
    """
    # Computed by matrix products, the distance of a vector to itself would not be 0.
    all_distances = torch.cdist(vectors.float(), vocabulary.float(), compute_mode="donot_use_mm_for_euclid_dist")
    distances, tokens = all_distances.topk(count, largest=False)
    return [
        list(zip(tokenizer.convert_ids_to_tokens(ids.tolist()), distance.tolist()))
        for ids, distance in zip(tokens, distances)
    ]
