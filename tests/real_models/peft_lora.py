"""LoRA with Hugging Face's peft on a small Llama of transformers."""

import peft
import torch
import transformers
from items import Items

VOCABULARY, LENGTH = 512, 64


class PeftLora:
    unit, batch_size, tokens = "tokens", 4, LENGTH

    def build(self):
        sizes = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4}
        config = transformers.LlamaConfig(vocab_size=VOCABULARY, use_cache=False, **sizes)
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        return peft.get_peft_model(transformers.LlamaForCausalLM(config), lora)

    def loss(self, model, batch):
        return model(input_ids=batch, labels=batch).loss

    def samples(self, data):
        return Items(lambda g: torch.randint(0, VOCABULARY, (LENGTH,), generator=g))

    def layers(self, model):
        return list(model.get_base_model().model.layers)
