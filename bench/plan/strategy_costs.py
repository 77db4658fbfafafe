"""What each strategy divides over ranks, what a rank sends in a step, and what it keeps in memory: by formula.

Sources: ZeRO (arXiv:1910.02054) for the memory of replicas and shards, Korthikanti et al. (arXiv:2205.05198) for tensor
and sequence parallel. ``tests/end_to_end/test_traffic.py`` compares them with what was counted.
"""

from __future__ import annotations

from typing import NamedTuple

SYMBOLS = (
    "In float32, with AdamW and without --grad-accum-steps: P parameters, of which P_root are outside of "
    "layers(model); n data ranks, T ranks of tp. Under tp, N parameters are not divided (norms, biases of row-wise "
    "layers), and a rank has P' = (P - N) / T + N; M of them are of norms; L blocks of two norms; A bytes of "
    "activations between layers, batch x sequence x width x 4; G bytes of logits. Bytes are those of messages: what is "
    "gathered, or what it was before it is reduced or scattered. With loss-parallel=on logits are not gathered, and "
    "three numbers a token are all-reduced. Learned positions gather their gradient as well. A workload with "
    "split_sequence = False (bert, vit) has, in place of the gathers and scatters of activations, all-reduces of 4 L "
    "A, of A for an embedding that is divided, and of what a divided head takes. Under pp a rank has P_s of the "
    "parameters, those of its stages, and M micro-batches of a step have activations of A bytes each, which go from "
    "stage to stage, as their gradients go back. A parameter of W bytes that the first and the last stage share is "
    "all-reduced between both, sharded like all others."
)


class Costs(NamedTuple):
    """What a strategy divides, the bytes of its collectives in a step, and those of parameters, gradients and state."""

    divided: str
    traffic: str
    memory: str


COSTS = {
    "single": Costs("nothing", "none", "16 P"),
    "ddp": Costs("the batch", "all-reduce 4 P", "16 P, and 4 P of buckets unless bucket-view=on"),
    "zero1": Costs(
        "the batch; the optimizer's state",
        "all-reduce 4 P, broadcast 4 P",
        "8 P + 8 P / n, and 4 P of buckets unless bucket-view=on",
    ),
    "fsdp": Costs(
        "the batch; parameters, gradients and the optimizer's state",
        "all-gather 4 (2 (P - P_root) + P_root), reduce-scatter 4 P",
        "16 P / n",
    ),
    "ddp:tp=T": Costs(
        "the batch, between groups; in a group each layer but norms, and the sequence between layers",
        "all-reduce 4 P' over n; all-gather (4 L + 2) A + G, reduce-scatter (4 L + 2) A, all-reduce 4 M over T",
        "16 P', and 4 P' of buckets unless bucket-view=on",
    ),
    "fsdp:tp=T": Costs(
        "as under ddp:tp, and what a rank has of the layers is sharded over n",
        "over n as fsdp of P'; all-gather (4 L + 2) A + G, reduce-scatter (4 L + 2) A, all-reduce 4 M over T",
        "16 P' / n",
    ),
    "ddp:pp=N": Costs(
        "the batch, between groups; in a group the layers",
        "all-reduce 4 P_s over n; send M A and receive M A at each boundary of its stages; all-reduce W",
        "16 P_s, and 4 P_s of buckets unless bucket-view=on",
    ),
    "fsdp:pp=N": Costs(
        "as under ddp:pp, and what a rank has of the layers is sharded over n",
        "over n: all-gather 4 ((M + 1) (P_s - P_root) + P_root), with reshard=off 4 P_s, and reduce-scatter 4 P_s; "
        "send and receive as under ddp:pp; all-reduce W / n",
        "16 P_s / n",
    ),
}
