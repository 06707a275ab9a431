"""Generation by a causal Performer BERT.

It is linear at any length, and its past has a fixed size: a token takes the same time after ten tokens as after ten
thousand. Positions count real tokens only, so a left-padded prompt gets the same continuation as alone.
"""

from typing import Any

import torch
from transformers import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .cache_name_performer_bert import CACHE, given_cache, under_installed_name
from .losses_performer_bert import cross_entropy
from .state_performer_bert import PerformerBertState


class PerformerBertGenerationMixin(GenerationMixin):
    """The forward pass of a causal model with the encoder `bert` and the masked-word head `cls`, and `generate`."""

    # Tells transformers that the past cannot be cut back to fewer tokens.
    _is_stateful = True

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: PerformerBertState | None = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: PerformerBertState | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """Return the scores of the token after each token, `logits` [batch, length, vocabulary].

        Args:
            attention_mask: [batch, past + length], 0 for padding.
            position_ids: [batch, length]; defaults to the number of real tokens before each.
            past_key_values: the state that a call with `use_cache` returned; the tokens are added to it after the
                forward pass has succeeded. Generation can also continue from a `copy.deepcopy` of it.
            use_cache: whether to return the state; by default only if one was given (`generate` requests one). If
                False, a given state is read and stays as it is.
            labels: ids [batch, length], -100 where there is no loss; that of token i is predicted at token i - 1. Not
                with `logits_to_keep`, which needs `shift_labels`.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then their sum divided by
                this number.
            logits_to_keep: score only this many last tokens (0: all), or those at these indices (1-D).
            cache: transformers' name for `past_key_values` from 5.24 on.
            shift_labels (in `kwargs`, since `Trainer` requires every named label): instead of `labels`, the id to
                predict at each of the `logits`.

        Raises:
            ValueError: a mask that does not cover past and new tokens, a cache of another kind, labels of dropped
                tokens, or attention weights or gradient checkpointing together with a state.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"expected either input_ids or inputs_embeds, got {'neither' if given is None else 'both'}"
            )
        keywords: dict[str, Any] = {**kwargs}
        shift_labels = keywords.pop("shift_labels", None)
        if labels is not None and shift_labels is None and (torch.is_tensor(logits_to_keep) or logits_to_keep):
            raise ValueError(
                "labels belong to all tokens, but logits_to_keep drops some: give shift_labels instead, the ids to "
                "predict at the kept tokens"
            )
        state = given_cache(cache, past_key_values)
        # By name: a copy from the Hub has a different class.
        if state is not None and type(state).__name__ != PerformerBertState.__name__:
            raise ValueError(
                f"the past of a Performer BERT is a PerformerBertState, got {type(state).__name__}: call "
                "with use_cache=True first, or leave it out"
            )
        if state is None and use_cache:
            state = PerformerBertState(self.bert.encoder.feature_maps(), self.bert.encoder.scaling)
        if state is not None and self.training and self._is_checkpointing():
            raise ValueError("gradient checkpointing reads every token twice, which a state forbids: use_cache=False")
        if state is not None and keywords.get("output_attentions"):
            raise ValueError("attention weights need the past keys, which a state does not hold: pass use_cache=False")
        batch, length = given.shape[:2]
        past = 0 if state is None else state.get_seq_length()
        if attention_mask is None:
            real = torch.ones(batch, length, dtype=torch.bool, device=given.device)
        elif attention_mask.shape == (batch, past + length):
            real = (attention_mask[:, past:] != 0).to(given.device)
        else:
            raise ValueError(
                f"expected an attention_mask of all tokens, {past} past and {length} new, {(batch, past + length)}, "
                f"got {tuple(attention_mask.shape)}"
            )
        counted = (real.cumsum(-1) - 1).clamp(min=0) if state is None else state.positions(real)
        draft = None if state is None else state.draft()
        outputs = self.bert(
            input_ids,
            None if attention_mask is None else real,
            token_type_ids,
            counted if position_ids is None else position_ids,
            inputs_embeds=inputs_embeds,
            state=draft,
            return_dict=True,
            **keywords,
        )
        states = outputs.last_hidden_state
        if isinstance(logits_to_keep, torch.Tensor):
            states = states[:, logits_to_keep]
        elif logits_to_keep:
            states = states[:, -logits_to_keep:]
        logits = self.cls(states)
        loss = None
        if shift_labels is not None:
            loss = cross_entropy(logits, shift_labels, num_items_in_batch)
        elif labels is not None:
            loss = cross_entropy(logits[:, :-1], labels[:, 1:], num_items_in_batch)
        if state is not None and draft is not None and use_cache is not False:
            state.commit(draft, real)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: state if use_cache is not False else None},
        )

    def generate(self, *arguments: Any, **options: Any) -> Any:
        """Generate as everywhere in transformers; the cache may be named `cache` or `past_key_values`."""
        return super().generate(*arguments, **under_installed_name(options))

    def _is_checkpointing(self) -> bool:
        # Not PreTrainedModel's property, whose name changed in transformers 5.24.
        return any(layer.gradient_checkpointing for layer in self.bert.encoder.layer)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, *args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Prepare the inputs of a generation step as transformers does.

        Raises:
            ValueError: a prompt has padding on the right, after which it cannot be continued.
        """
        if (
            kwargs.get("is_first_iteration")
            and attention_mask is not None
            and bool((attention_mask[:, -1] == 0).any())
        ):
            raise ValueError(
                "expected a prompt padded on the left, got padding at its end: set tokenizer.padding_side = 'left'"
            )
        return super().prepare_inputs_for_generation(input_ids, *args, attention_mask=attention_mask, **kwargs)


__all__ = ["PerformerBertGenerationMixin"]
