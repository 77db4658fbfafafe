"""How one model is spread over devices: one file a strategy.

Each has

``apply(model, layers, mesh, case, device) -> Module``
    the model, already checkpointed and compiled, on the device and spread over the mesh (None where there is one rank);
``compiled(model, layers) -> Sequence[Module]``
    what ``--compile`` compiles of it, before it is spread;
``gradient_sync(model, on) -> ContextManager``
    a forward and backward pass in it exchanges gradients if ``on``, else keeps them for a later one that does;
``forward_is_local(model) -> bool | None``
    whether a rank waits for no other before its backward pass; None where there is no other;
``OWN_PRECISION``
    True where the strategy does mixed precision itself, so that autocast must not.

The table of their names and options, without torch, is ``bench.plan.strategies``. Imports torch, and ``bench.plan``.
"""
