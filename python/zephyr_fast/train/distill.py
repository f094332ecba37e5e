"""Distillation: add a KL term towards a frozen teacher's token distribution to the SFT loss.

TRL's distillation trainers let the student generate and the teacher score the result, so they
cannot read packed sequences. This module uses TRL's divergence of two distributions, which is
computed from hidden states a few tokens at a time.
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
    """SFT with a teacher.

    The loss is `1 - weight` times the loss of the labels plus `weight` times KL(teacher ‖ student),
    per label token. The KL term is also logged as `teacher_kl`, in nats, in training and
    evaluation.
    """

    teacher: Any
    weight: float

    def set_teacher(self, name: str, weight: float) -> None:
        """Load the teacher with the student's attention, which isolates packed documents.

        Args:
            name: Directory or Hub id of the teacher.
            weight: Weight of the KL term, above 0 and at most 1.

        Raises:
            ConfigError: If the vocabularies differ, or the options or models are not supported.
            InputError: If the teacher cannot be loaded.
        """
        from trl.trainer.utils import add_fused_lm_head, create_model_from_path

        if not 0 < weight <= 1:
            raise ConfigError(f"`teacher_weight` must be above 0 and at most 1, not {weight}")
        if self.is_deepspeed_enabled:
            raise ConfigError(
                "`teacher` is not supported with DeepSpeed, which hides the weights of the "
                "LM head; use FSDP"
            )
        dtype = "bfloat16" if self.args.bf16 else "float16" if self.args.fp16 else "float32"
        attention = self.model.config._attn_implementation
        # `trust_remote_code` applies only to the student.
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
        add_fused_lm_head(teacher)  # by which its packing is proven
        teacher.eval().requires_grad_(False)
        self.teacher, self.weight = (
            self.accelerator.prepare_model(teacher, evaluation_mode=True),
            weight,
        )
        log(f"distilling from `{name}` with weight {weight:g}")

    def trained_models(self) -> list[Any]:
        """The student and the teacher."""
        return [*super().trained_models(), self.teacher]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the weighted sum of both terms; see `transformers.Trainer.compute_loss`."""
        import torch

        student, labels = self.accelerator.unwrap_model(model), inputs["labels"]
        with _hidden_states(student) as student_states:
            result = super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        seen = {name: value for name, value in inputs.items() if name != "labels"}
        with (
            torch.no_grad(),
            _hidden_states(self.accelerator.unwrap_model(self.teacher)) as teacher_states,
        ):
            self.teacher(**{**seen, "use_cache": False}, logits_to_keep=1)
        kl = self._divergence(student, student_states[0], teacher_states[0], labels)
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
        # TRL scales its term in the same way.
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            kl = kl * self.accelerator.num_processes
        loss, rest = (result[0], result[1:]) if return_outputs else (result, ())
        loss = (1 - self.weight) * loss + self.weight * kl
        return (loss, *rest) if return_outputs else loss

    def _divergence(
        self,
        student: Any,
        student_states: "torch.Tensor",
        teacher_states: "torch.Tensor",
        labels: "torch.Tensor",
    ) -> "torch.Tensor":
        """Return the sum of KL(teacher ‖ student) over the label tokens."""
        heads = [
            model.get_output_embeddings()
            for model in (student, self.accelerator.unwrap_model(self.teacher))
        ]
        caps = [
            getattr(model.config.get_text_config(), "final_logit_softcapping", None)
            for model in (student, self.teacher)
        ]
        summed, _, _ = _chunked_divergence_loss(
            student_states[:, :-1],
            teacher_states[:, :-1].to(student_states.dtype),
            *(head.weight.to(student_states.dtype) for head in heads),
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
    """Run the checks of `model.check_fit` for a teacher, before anything is loaded."""
    try:
        check_fit(name, manifests, tokenizer, trust=False)
    except ConfigError as error:
        raise ConfigError(f"teacher does not match the shards: {error}") from error


def _check_head(model: Any) -> None:
    """Raise ConfigError for a model that scales its logits, which the KL term ignores."""
    config = model.config.get_text_config()
    for key in ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise ConfigError(
                f"distillation does not support models that scale their logits (`{key}` of "
                f"`{config.model_type}`)"
            )


@contextmanager
def _hidden_states(model: Any) -> "Iterator[list[torch.Tensor]]":
    """Collect the inputs of the model's LM head in all forward passes within the block."""
    backbone = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    found: list[torch.Tensor] = []
    handle = backbone.register_forward_hook(
        lambda _module, _inputs, output: found.append(output.last_hidden_state)
    )
    try:
        yield found
    finally:
        handle.remove()
