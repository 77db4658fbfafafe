"""How one model is spread over devices: one file a strategy, each with

``apply(model, layers, mesh, case) -> Module``
    the model, already checkpointed, spread over the mesh (None where there is one rank);
``OWN_PRECISION``
    True where the strategy does mixed precision itself, so that autocast must not;
``forward_is_local(model) -> bool | None``
    whether a rank waits for no other before its backward pass; None where there is no other.

This file is a table without torch; the modules named in it import torch.
"""

STRATEGIES = {
    "single": "one device, no process group: the baseline",
    "ddp": "DistributedDataParallel: replicas, gradients all-reduced in buckets during the backward pass",
    "fsdp": "fully_shard per layer (FSDP2): parameters, gradients and optimizer state sharded over all ranks",
}
