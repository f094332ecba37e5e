"""Distillation on token probabilities: at every trained token the student also learns the whole
distribution of a frozen teacher.

TRL's own distillation trainers let the student write and the teacher judge what it wrote; they
cannot read finished windows. What of them fits is used here: the divergence of two
distributions, computed from hidden states a few tokens at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

# Private, and pinned with TRL.
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.train.model import check_fit, log
from zephyr_fast.train.trainers import SFTTrainer
from zephyr_fast.train.trust import refused_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class DistillationTrainer(SFTTrainer):
    """dSFT with a teacher: the loss is `1 - weight` parts that of the labels and `weight` parts
    KL(teacher ‖ student), per trained token.

    The KL alone is logged as `teacher_kl`, in nats, in training and in evaluation.
    """

    teacher: Any
    weight: float

    def set_teacher(self, name: str, weight: float) -> None:
        """Loads the teacher (folder or Hub id), with the student's kind of attention, since that
        keeps packed documents apart.

        ConfigError where the two do not have one vocabulary.
        """
        from trl.trainer.utils import create_model_from_path

        if not 0 < weight <= 1:
            raise ConfigError(f"`teacher_weight` must be above 0 and at most 1, not {weight}")
        if self.is_deepspeed_enabled:
            raise ConfigError(
                "`teacher` is not supported with DeepSpeed, which hides the weights of the "
                "LM head; use FSDP"
            )
        dtype = "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32"
        attention = self.model.config._attn_implementation
        # `trust_remote_code` is the user's word on the student alone.
        with refused_model(f"the teacher `{name}`"):
            teacher = create_model_from_path(
                name,
                dtype=dtype,
                attn_implementation=attention,
                device_map=None,
                trust_remote_code=False,
            )
        sizes = [model.config.get_text_config().vocab_size for model in (self.model, teacher)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"teacher `{name}` has a vocabulary of {sizes[1]} tokens, but the student "
                f"has {sizes[0]}; they must be equal"
            )
        for model in (self.model, teacher):
            _check_head(model)
        teacher.eval().requires_grad_(False)
        self.teacher, self.weight = (
            self.accelerator.prepare_model(teacher, evaluation_mode=True),
            weight,
        )
        log(f"distilling from `{name}` with weight {weight:g}")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The two parts of the loss."""
        import torch

        student, labels = self.accelerator.unwrap_model(model), inputs["labels"]
        with _hidden_states(student) as mine:
            told = super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        seen = {name: value for name, value in inputs.items() if name != "labels"}
        with torch.no_grad(), _hidden_states(self.accelerator.unwrap_model(self.teacher)) as theirs:
            self.teacher(**{**seen, "use_cache": False}, logits_to_keep=1)
        kl = self._divergence(student, mine[0], theirs[0], labels)
        tokens = (labels[:, 1:] != -100).sum()
        summed, counted = (
            self.accelerator.gather_for_metrics(torch.stack([kl.detach(), tokens]))
            .view(-1, 2)
            .sum(0)
            .tolist()
        )
        self._metrics["train" if self.model.training else "eval"]["teacher_kl"].append(
            summed / max(counted, 1)
        )
        kl = kl / (tokens.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
        # As TRL does with its part.
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            kl = kl * self.accelerator.num_processes
        loss, rest = (told[0], told[1:]) if return_outputs else (told, ())
        loss = (1 - self.weight) * loss + self.weight * kl
        return (loss, *rest) if return_outputs else loss

    def _divergence(
        self, student: Any, mine: "torch.Tensor", theirs: "torch.Tensor", labels: "torch.Tensor"
    ) -> "torch.Tensor":
        """Sum over the trained tokens of KL(teacher ‖ student)."""
        heads = [
            model.get_output_embeddings()
            for model in (student, self.accelerator.unwrap_model(self.teacher))
        ]
        caps = [
            getattr(model.config.get_text_config(), "final_logit_softcapping", None)
            for model in (student, self.teacher)
        ]
        summed, _, _ = _chunked_divergence_loss(
            mine[:, :-1],
            theirs[:, :-1].to(mine.dtype),
            *(head.weight.to(mine.dtype) for head in heads),
            completion_mask=labels[:, 1:] != -100,
            beta=0.0,  # the forward divergence
            num_items_in_batch=1,
            student_lm_head_bias=heads[0].bias,
            teacher_lm_head_bias=heads[1].bias,
            student_final_logit_softcapping=caps[0],
            teacher_final_logit_softcapping=caps[1],
        )
        return summed


def check_teacher(
    name: str, manifests: Sequence[Manifest], tokenizer: "PreTrainedTokenizerBase"
) -> None:
    """What can be said of a teacher before anything is loaded: see `model.check_fit`."""
    try:
        check_fit(name, manifests, tokenizer, trust=False)
    except ConfigError as error:
        raise ConfigError(f"teacher does not match the shards: {error}") from error


def _check_head(model: Any) -> None:
    """ConfigError for a model that scales its logits, which the divergence here does not do."""
    config = model.config.get_text_config()
    for key in ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise ConfigError(
                f"distillation does not support models that scale their logits (`{key}` of "
                f"`{config.model_type}`)"
            )


@contextmanager
def _hidden_states(model: Any) -> "Iterator[list[torch.Tensor]]":
    """What the head of the model is given in the forward passes within."""
    backbone = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    found: list[torch.Tensor] = []
    handle = backbone.register_forward_hook(
        lambda _module, _inputs, output: found.append(output.last_hidden_state)
    )
    try:
        yield found
    finally:
        handle.remove()
