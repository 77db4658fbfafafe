"""Distributes one model over devices: one file for each strategy.

Each file has

``apply(model, layers, mesh, case, device) -> Module``
    returns the model (already checkpointed and compiled) on the device, distributed over the mesh (None with one rank);
``gradient_sync(model, on) -> ContextManager``
    returns a context in which a backward pass exchanges gradients if ``on``, else accumulates them for a later one;
``forward_is_local(model) -> bool | None``
    returns whether a rank's forward pass waits for no other rank; None without other ranks;
``remove_collectives(model, case) -> bool``
    makes all further steps exchange nothing, and returns True; False if the strategy has no way to do so;
``optimizer(kind, parameters, **options) -> Optimizer``, optional
    returns an optimizer of a class of torch.optim; by default the class itself makes it;
``OWN_PRECISION``
    is True if the strategy implements mixed precision itself, so that autocast must not.

The table of names and options, without torch, is ``bench.plan.strategies``. Imports torch, and ``bench.plan``.
"""
