import torch

from hf_sharp_prompt.metrics.detection import suppress_overlaps


def slow_suppression(boxes, labels, overlap):
    """A detection stays if no better one of its class that stays overlaps with it."""
    kept = []
    for place, (left, top, right, bottom) in enumerate(boxes.tolist()):
        area = (right - left) * (bottom - top)
        for other in kept:
            a, b, c, d = boxes[other].tolist()
            shared = max(0, min(right, c) - max(left, a)) * max(0, min(bottom, d) - max(top, b))
            if labels[other] == labels[place] and shared / (area + (c - a) * (d - b) - shared) > overlap:
                break
        else:
            kept.append(place)
    return kept


def test_of_overlapping_boxes_of_a_class_the_best_stays():
    corners = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 20
    boxes = torch.cat([corners, corners + 10], dim=1)
    labels = torch.arange(60) % 3
    for overlap in (0.0, 0.3, 0.8, 1.0):
        assert suppress_overlaps(boxes, labels, overlap).tolist() == slow_suppression(boxes, labels, overlap)
    assert len(suppress_overlaps(boxes, labels, 1.0)) == 60
    assert not len(suppress_overlaps(boxes[:0], labels[:0], 0.5))
    nowhere = torch.zeros(2, 4)
    assert len(suppress_overlaps(nowhere, torch.zeros(2), 0.5)) == 2, "boxes without area overlap with nothing"
