"""Small configurations for ``hf:config=FILE``, written as transformers' own ``config.json``."""

import json
from pathlib import Path

SMALL = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 384}
TEXT = {"vocab_size": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {"num_key_value_heads": 2, "num_hidden_layers": 2, "num_experts_per_tok": 2}
CONFIGS = {
    "gpt2": {**TEXT, "n_layer": 4, "n_embd": 128, "n_head": 4, "architectures": ["GPT2LMHeadModel"]},
    "llama": {**TEXT, **SMALL, "num_key_value_heads": 2, "architectures": ["LlamaForCausalLM"]},
    "bert": {**TEXT, **SMALL, "architectures": ["BertForMaskedLM"]},
    "distilbert": {
        **{"vocab_size": 512, "pad_token_id": 0, "n_layers": 3, "dim": 128, "n_heads": 4, "hidden_dim": 384},
        "architectures": ["DistilBertForMaskedLM"],
    },
    "t5": {
        **{"num_layers": 2, "d_model": 128, "num_heads": 4, "d_ff": 384, "d_kv": 32, "vocab_size": 512},
        **{"decoder_start_token_id": 0, "pad_token_id": 0, "architectures": ["T5ForConditionalGeneration"]},
    },
    "vit": {**SMALL, "image_size": 32, "patch_size": 8, "architectures": ["ViTForImageClassification"]},
    "mixtral": {**TEXT, **SMALL, **EXPERTS, "num_local_experts": 4, "architectures": ["MixtralForCausalLM"]},
    "qwen2_moe": {
        **{**TEXT, **SMALL, **EXPERTS, "num_experts": 4, "moe_intermediate_size": 192},
        **{"shared_expert_intermediate_size": 192, "architectures": ["Qwen2MoeForCausalLM"]},
    },
}


def write(folder: Path) -> None:
    """Write ``NAME.json`` for each model."""
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps({"model_type": name, **config}))
