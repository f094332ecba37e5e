"""Keys of training configs that are rejected, each with the reason and the replacement."""

from zephyr_fast.dataset.product import Product

_NO_EFFECT = "has no effect, because the shards already contain token ids; "
_LENGTH_KEYS = " or ".join(f"`{one.facts.length_key}` ({one.command})" for one in Product)
_LENGTH = _NO_EFFECT + f"set {_LENGTH_KEYS} in the data recipe"
_PACKING = (
    _NO_EFFECT + "`pack` decides whether documents share a row, and they never attend to each other"
)
_COMMANDS = "` or `".join(one.command for one in Product)
_SOURCE = f"is replaced by `shards`, the output directory of `zephyr-fast {_COMMANDS}`"
_SPLITS = _SOURCE + "; it contains the splits `train` and `test`"
_TEMPLATE = _NO_EFFECT + "set `template.name` in the data recipe; the shards include the template"
_TOKENIZER = _NO_EFFECT + "training uses the tokenizer in their `tokenizer` directory"
_LOSS = _NO_EFFECT + "set `tokenize.train_on` in the data recipe"
_NO_METRICS = "has no effect, because the command has no `compute_metrics` that would use it"
_FULL_EVAL = "has no effect, because evaluations are part of training and use its precision"
_REFERENCE = "is not supported: the reference is the model that the run starts from"
_NOT_NEEDED = "is no longer needed; remove it: "

UNSUPPORTED_KEYS = {
    # Keys of the handbook's recipes and of older TRL and transformers versions, which the
    # installed versions have dropped.
    "max_seq_length": _LENGTH,
    "max_prompt_length": _LENGTH,
    "max_completion_length": _LENGTH,
    "max_target_length": _LENGTH,
    "warmup_ratio": "is replaced by `warmup_steps`: a value below 1 is a fraction of all steps, "
    "e.g. `warmup_steps: 0.1`",
    "torch_dtype": "is renamed to `dtype`",
    "evaluation_strategy": "is renamed to `eval_strategy`",
    "group_by_length": "is replaced by `train_sampling_strategy: group_by_length`",
    "overwrite_output_dir": _NOT_NEEDED
    + "existing checkpoints are only read with `resume_from_checkpoint`",
    "save_safetensors": _NOT_NEEDED + "weights are always saved as safetensors",
    "logging_dir": "is replaced by the environment variable TENSORBOARD_LOGGING_DIR",
    "no_cuda": "is renamed to `use_cpu`",
    "use_flash_attention_2": "is replaced by `attn_implementation: flash_attention_2`",
    "half_precision_backend": _NOT_NEEDED + "set `bf16` or `fp16`",
    "dispatch_batches": "is now a key of `accelerator_config`",
    "split_batches": "is now a key of `accelerator_config`",
    "push_to_hub_model_id": "is renamed to `hub_model_id`",
    "rpo_alpha": "is replaced by `loss_type: [sigmoid, sft]` with `loss_weights: [1.0, ALPHA]`",
    "reference_free": "was removed from TRL",
    "ref_model": _REFERENCE,
    "ref_model_name_or_path": _REFERENCE,
    "ref_model_init_kwargs": _REFERENCE,
    "generate_during_eval": "was removed from TRL",
    "ref_adapter_name": _NOT_NEEDED + "the reference of an adapter is its initial state",
    "model_adapter_name": _NOT_NEEDED + "the adapter is named `default`",
    "label_pad_token_id": _NOT_NEEDED + "it is always -100",
    # Keys that selected the data.
    "dataset_mixer": _SOURCE,
    "dataset_mixture": _SOURCE,
    "dataset_splits": _SPLITS,
    "dataset_configs": _SOURCE,
    "dataset_name": _SOURCE,
    "dataset_config": _SOURCE,
    "datasets": _SOURCE,
    "dataset_train_split": _SPLITS,
    "dataset_test_split": _SPLITS,
    "preprocessing_num_workers": _NO_EFFECT
    + "for `zephyr-fast prep`, which uses every core by default, see `--threads`",
    "auto_insert_empty_system_msg": _TEMPLATE,
    "chat_template": _TEMPLATE,
    "tokenizer_name_or_path": _TOKENIZER,
    # Keys that TRL still accepts, but that would silently do nothing to token ids.
    "max_length": _LENGTH,
    "truncation_mode": _LENGTH,
    "packing": _PACKING,
    "packing_strategy": _PACKING,
    "eval_packing": _PACKING,
    "padding_free": _PACKING,
    "chat_template_path": _TEMPLATE,
    "dataset_text_field": _SOURCE,
    "dataset_num_proc": _NO_EFFECT + "no preprocessing remains to be done",
    "dataset_kwargs": _NO_EFFECT + "no preprocessing remains to be done",
    "assistant_only_loss": _LOSS,
    "completion_only_loss": _LOSS,
    "eos_token": _TOKENIZER,
    "pad_token": _TOKENIZER,
    "shuffle_dataset": _NO_EFFECT + "rows are read in an order that depends on `seed`",
    "length_column_name": _NO_EFFECT + "`train_sampling_strategy: group_by_length` knows their "
    "lengths",
    "precompute_ref_batch_size": "has no effect: `zephyr-fast ref-logprobs` stores the reference "
    "log-probs",
    "do_predict": "has no effect: predictions are not written; see `zephyr-fast generate`",
    "bf16_full_eval": _FULL_EVAL,
    "fp16_full_eval": _FULL_EVAL,
    "prediction_loss_only": _NO_METRICS,
    "include_for_metrics": _NO_METRICS,
    "batch_eval_metrics": _NO_METRICS,
    "eval_accumulation_steps": _NO_METRICS,
    "eval_do_concat_batches": _NO_METRICS,
    "eval_use_gather_object": _NO_METRICS,
    "label_names": _NO_METRICS,
    "logging_nan_inf_filter": _NOT_NEEDED + "a loss that is NaN or infinite stops the run",
    "remove_unused_columns": _NOT_NEEDED + "shards contain only the columns used in training",
    # Names that zephyr-fast used before.
    "mix": "is replaced by `shards`, which accepts several directories: `shards: [A, B]`, or "
    "`--shards A B`",
    "pack_pairs": "is replaced by `pack`: `auto`, `true` or `false`",
    "tail": "is renamed to `remainder`",
}
"""The reason why a key is rejected, and the replacement, by key."""

_OTHER_TRAINER = (
    "has its own trainer in TRL, which tokenizes text itself: give it the `text` directory of "
    "`zephyr-fast binarize`"
)

UNSUPPORTED_METHODS = {
    **{
        name: f"{_OTHER_TRAINER}, or use `dpo`"
        for name in ("kto", "orpo", "cpo", "simpo", "reward", "bco")
    },
    **{
        name: f"is a loss of `dpo`: set `loss_type: {loss}`"
        for name, loss in (("ipo", "ipo"), ("apo", "apo_zero"), ("aot", "aot"))
    },
    **{
        name: "generates while it trains, which is not supported; use TRL"
        for name in ("grpo", "rloo", "ppo", "online_dpo", "gkd")
    },
    "distill": "is `sft` with `--teacher MODEL`",
}
"""Training methods that are not commands, each with the alternative."""

UNSUPPORTED_LOSSES = {
    **{name: f"`{name}` {_OTHER_TRAINER}" for name in ("simpo", "orpo", "cpo", "kto", "kto_pair")},
    "bco": "TRL names it `bco_pair`",
    "exo": "TRL names it `exo_pair`",
    "nca": "TRL names it `nca_pair`",
    "sppo": "TRL names it `sppo_hard`",
    "apo": "TRL has `apo_zero` and `apo_down`",
    "aot_pair": "TRL has renamed it to `aot`, and what was `aot` to `aot_unpaired`",
    "dpo": "TRL names it `sigmoid`",
}
"""Values of `loss_type` that TRL's DPO does not have, each with the alternative."""
