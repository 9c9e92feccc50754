"""Losses of fine-tuning, a file each. Scores are [Q, D] matrices, float32."""

from dupmae_toolkit.training.losses.aggretriever import aggretriever
from dupmae_toolkit.training.losses.contrastive import contrastive
from dupmae_toolkit.training.losses.distillation import distill
from dupmae_toolkit.training.losses.flops import flops
from dupmae_toolkit.training.losses.l1 import l1
from dupmae_toolkit.training.losses.margin_mse import margin_mse
from dupmae_toolkit.training.losses.matryoshka import truncated
from dupmae_toolkit.training.losses.ramp import ramp
from dupmae_toolkit.training.losses.self_distillation import self_distill

__all__ = [
    "aggretriever",
    "contrastive",
    "distill",
    "flops",
    "l1",
    "margin_mse",
    "ramp",
    "self_distill",
    "truncated",
]
