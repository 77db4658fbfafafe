"""A case with every axis at what a machine without a GPU makes of it; tests change what they are about."""

from bench.plan.case import Case

PLAIN = Case(
    workload="resnet18",
    strategy="ddp",
    gpus=2,
    device="cpu",
    precision="fp32",
    activation_checkpointing="none",
    batch_size=32,
    data="resident",
    num_workers=None,
    pin_memory=None,
    prefetch_factor=None,
    persistent_workers=None,
    omp_num_threads=1,
    seed=0,
    cudnn_benchmark=None,
    numa_binding=None,
)
