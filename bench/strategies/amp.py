"""What the AMP precisions compute in, whoever casts: autocast, or a strategy by its own means."""

import torch

AMP = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}
