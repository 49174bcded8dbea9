"""A long tail of four classes, and its weights written out."""

COUNTS = [300, 50, 8, 2]


def slow_weights(counts: list[int], beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [len(counts) * w / sum(raw) for w in raw]
