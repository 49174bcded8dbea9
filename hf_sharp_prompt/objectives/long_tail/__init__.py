"""Losses for training sets in which some classes are rare: one file per loss, each named as it is chosen.

A loss takes the logits as the model returns them and changes them in training, by the classes' counts; the model and
its predictions stay as they are. Re-weighting the classes goes with every one of them.
"""

from .balanced_softmax import BalancedSoftmax
from .cross_entropy import CrossEntropy
from .gcl import GCL
from .ldam import LDAM
from .logit_adjustment import LogitAdjustment
from .loss import LongTailLoss, create, names, weighted_cross_entropy
from .weights import effective_number_weights, mean_weight


__all__ = [
    "GCL",
    "LDAM",
    "BalancedSoftmax",
    "CrossEntropy",
    "LogitAdjustment",
    "LongTailLoss",
    "create",
    "effective_number_weights",
    "mean_weight",
    "names",
    "weighted_cross_entropy",
]
