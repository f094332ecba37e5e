"""Small models with random weights, one per architecture of transformers, for proofs of packing."""

from typing import Any

import numpy as np
import torch

VOCABULARY = 96

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Settings of every configuration; attention and its leaks are large at this initial range."""

MIXTURE: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
STATE: dict[str, Any] = {"state_size": 8, "time_step_rank": 4, "expand": 2}
MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}

ISOLATING: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3")},
    **{name: {} for name in ("gemma3_text", "phi", "cohere", "cohere2", "olmo", "olmo2", "olmo3")},
    **{name: {} for name in ("smollm3", "stablelm", "starcoder2", "granite", "glm", "glm4")},
    **{name: {} for name in ("helium", "nemotron", "persimmon", "gpt_neo", "gpt_neox", "gpt2")},
    **{name: {} for name in ("ernie4_5", "exaone4", "seed_oss", "arcee", "apertus", "ministral")},
    **{name: {} for name in ("hunyuan_v1_dense", "diffllama", "bitnet", "codegen")},
    **{name: MIXTURE for name in ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe")},
    "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "gpt_bigcode": {},
    "deepseek_v3": MIXTURE | LATENT,
    "deepseek_v2": MIXTURE | LATENT,
    "gemma4_text": {"hidden_size_per_layer_input": 0, "global_head_dim": 8},
    "glm4_moe": MIXTURE | {"n_group": 1, "topk_group": 1},
    "ernie4_5_moe": MIXTURE | {"moe_num_experts": 4, "moe_k": 2},
    "codegen": {"rotary_dim": 4},
}
"""Architectures in which packed documents are expected not to see each other, and their own
settings.
"""

LEAKING: dict[str, dict[str, Any]] = {
    "gpt_oss": MIXTURE,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "biogpt": {},
    "bloom": {},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "falcon": {"alibi": True, "head_dim": None},
    "mamba": STATE,
    "falcon_mamba": STATE,
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "qwen3_next": MIXTURE | LINEAR,
    "qwen3_5_text": LINEAR,
    "bamba": MAMBA2 | {"attn_layer_indices": [1]},
    "jamba": MIXTURE | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "falcon_h1": MAMBA2 | {"mamba_d_ssm": 64},
    "granitemoehybrid": MIXTURE | MAMBA2 | {"layer_types": ["mamba", "attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 32},
    "rwkv": {"attention_hidden_size": 32},
    "minimax": MIXTURE | {"layer_types": ["linear_attention", "full_attention"]},
    "olmo_hybrid": LINEAR,
    "deepseek_v4": MIXTURE | LATENT | {"index_n_heads": 4, "index_head_dim": 16},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
}
"""Architectures in which packed documents are expected to see each other."""

FAST = (
    *("llama", "mistral", "qwen3", "gemma2", "gpt2", "mixtral", "deepseek_v3"),
    *("gpt_oss", "opt", "bloom", "mamba", "lfm2", "bamba"),
)
"""The architectures that every test run tries."""

ALL = ISOLATING | LEAKING


def build(name: str, attention: str | None = "eager", **settings: Any) -> Any:
    """Build the model with TRL's fused LM head, always with the same weights.

    A setting of None is left to the architecture.

    Raises:
        ValueError: If transformers has no such architecture or attention for it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    given = COMMON | ALL[name] | settings
    config = AutoConfig.for_model(
        name, **{key: value for key, value in given.items() if value is not None}
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    add_fused_lm_head(model)
    return model


def tokens() -> "np.ndarray[Any, Any]":
    """Return random token ids, the same on every call."""
    return np.random.default_rng(0).integers(3, VOCABULARY, 200)
