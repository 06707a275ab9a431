"""UniLM (https://kexue.fm/archives/6933): generation by a masked language model, under another attention mask.

A text is a prompt (token type 0) and its continuation (token type 1). A prompt token sees the whole prompt, to both
sides; a continuation token sees the prompt, its own past and itself. The weights are a masked language model's as they
are. What this adds to them is the mask, `generate()` and the shifted loss. How it departs from transformers' decoders:

* The mask comes from `token_type_ids`, by bert4keras' rule. After a continuation token all others count as
  continuation, whatever their type.
* Without `token_type_ids` the whole input is prompt. `generate()` gives what it adds the type 1.
* Positions count real tokens only, so a prompt padded on the left gets the answer that it gets alone.
* `generate()` takes right padding as well (it moves it to the left), stops at [SEP] or where the positions end, and
  never writes [CLS], [MASK], [PAD], [UNK] or an [unused...] token: the defaults, in `generation_config`, read off the
  folder's vocab.txt. Asked for more tokens than there are positions it raises before it begins.
* The prompt is read at once, because its states depend on all of it: no chunked prefill, and no assisted decoding.
* Static caches work; nothing is compiled automatically (`_can_compile_fullgraph` stays False).
"""

import re
import warnings
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import cached_file, can_return_tuple

from .losses_wobert import cross_entropy
from .unilm_mask_wobert import first_disorder, unilm_mask
from .vocabulary_wobert import load_vocabulary

NEVER_WRITTEN = re.compile(r"\[(CLS|MASK|PAD|UNK|unused\d+)\]")


class UniLmGenerationMixin(GenerationMixin):
    """Before a BERT-like model with a masked-word head in the order of bases: the same weights as a UniLM.

    The model has a base model under `base_model_prefix`, which takes a cache, and the head `cls`.
    """

    # Flash attention knows causal and full masks only; FlexAttention is not tested.
    _supports_flash_attn = False
    _supports_flex_attn = False
    create_masks_for_generate = staticmethod(unilm_mask)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._complete_generation_config(None)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        labels: torch.Tensor | None = None,
        shift_labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Scores of the token after each token, `logits` [batch, length, vocabulary].

        Args:
            attention_mask: [batch, past + length], 0 for padding, on either side.
            token_type_ids: [batch, length], 0 for the prompt and then 1 for the continuation; None: all is prompt. A
                0 after a 1 is warned about and taken for a 1.
            position_ids: [batch, length]; by default the number of real tokens before each.
            past_key_values: a cache of what precedes; its prompt does not see the new tokens.
            use_cache: whether to return a cache; by default only where one was given (`generate` asks for one).
            labels: ids [batch, length], -100 where no loss is wanted; that of token i is predicted at token i - 1.
                They belong to continuation tokens only, since a prompt token is seen by those before it.
            shift_labels: instead of `labels`, for each of the `logits` the id that is to be predicted there.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then sum / number.
            logits_to_keep: score only that many last tokens (0: all), or those at these indices (1-D).

        Raises:
            ValueError: more tokens than the model has positions for.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("expected input_ids or inputs_embeds, got neither")
        batch, length = given.shape[:2]
        watched = not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        # A warning and no error: the answer is well defined, and transformers' own tests feed random types.
        if watched and token_type_ids is not None and length > 1:
            disorder = first_disorder(token_type_ids, attention_mask)
            if disorder is not None:
                warnings.warn(f"{disorder}; it is taken for a 1", UserWarning, stacklevel=2)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            if attention_mask is not None and attention_mask.dim() == 2:
                real = attention_mask != 0
                position_ids = ((real.cumsum(-1) - 1) * real)[:, -length:]
            else:
                position_ids = torch.arange(length, device=given.device)[None] + past
        limit = self.config.max_position_embeddings
        # The tokens are counted first: looking at the positions makes a GPU wait.
        if watched and past + length > limit and (needed := int(position_ids.max()) + 1) > limit:
            raise ValueError(
                f"expected at most {limit} tokens, which is how many positions the model has, got {needed}; cut the "
                f"prompt (truncation=True, max_length=...) or ask for fewer new tokens (max_new_tokens=...)"
            )

        embeddings = self.get_input_embeddings().weight
        mask = unilm_mask(
            self.config,
            torch.empty(batch, length, 0, dtype=embeddings.dtype, device=given.device),
            attention_mask,
            past_key_values,
            token_type_ids,
        )
        outputs = getattr(self, self.base_model_prefix)(
            input_ids,
            attention_mask=mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            past_key_values=past_key_values,
            return_dict=True,
            **kwargs,
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
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            # The encoder itself returns none: it fills the one it is given.
            past_key_values=past_key_values if use_cache is not False else None,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def generate(
        self, inputs: Any = None, generation_config: GenerationConfig | None = None, *arguments: Any, **options: Any
    ) -> Any:
        """As in all of transformers. `token_type_ids` (default: all 0) say what is prompt and what is the beginning
        of the continuation. Rows with padding on the right come back with it on the left.

        Raises:
            ValueError: segments in the wrong order, a prompt or a number of new tokens for which the model has no
                positions, or a way to generate that needs the prompt in parts.
        """
        # Either would compute the first part of a prompt, or guessed tokens, as if nothing came after.
        for name in ("prefill_chunk_size", "prompt_lookup_num_tokens", "assistant_model", "assistant_early_exit"):
            if options.get(name) is not None or getattr(generation_config, name, None) is not None:
                raise ValueError(f"{name} is not possible with a UniLM, whose prompt is read at once; leave it out")
        if inputs is not None and options.get("input_ids") is None:
            inputs, options["input_ids"] = None, inputs
        if options.get("max_new_tokens") is not None:
            # Ours is a default, which transformers would call a contradiction.
            options.setdefault("max_length", None)
        prompt = options.get("inputs_embeds")
        prompt = options.get("input_ids") if prompt is None else prompt
        if prompt is not None and prompt.dim() > 1 and prompt.shape[1]:
            self._check_prompt(prompt, generation_config, options)
        return super().generate(inputs, generation_config, *arguments, **options)

    def _check_prompt(self, prompt: torch.Tensor, generation_config: GenerationConfig | None, options: dict) -> None:
        """Complete `options`: the mask, the types, all padding to the left, and where to stop by default."""

        def setting(name: str) -> Any:
            for source in (
                options,
                vars(generation_config) if generation_config else {},
                vars(self.generation_config),
            ):
                if source.get(name) is not None:
                    return source[name]
            return None

        mask = options.get("attention_mask")
        if mask is None:
            pad = setting("pad_token_id")
            mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
            if pad is not None and prompt.dim() == 2 and options.get("past_key_values") is None:
                mask = (prompt != pad).long()
        types = options.get("token_type_ids")
        if types is None:
            types = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        elif types.shape != mask.shape:
            raise ValueError(
                f"expected token_type_ids of the prompt's shape {tuple(mask.shape)}, got {tuple(types.shape)}"
            )
        elif (disorder := first_disorder(types, mask)) is not None:
            raise ValueError(disorder)
        options["attention_mask"], options["token_type_ids"] = mask, types
        if bool((mask[:, -1] == 0).any()):
            if options.get("past_key_values") is not None:
                raise ValueError("expected padding on the left of what continues a cache, got it on the right")
            order = (mask != 0).long().argsort(dim=-1, stable=True)
            for name in ("attention_mask", "token_type_ids", "input_ids", "position_ids"):
                if options.get(name) is not None and options[name].shape == mask.shape:
                    options[name] = options[name].gather(1, order.to(options[name].device))
            if (embeds := options.get("inputs_embeds")) is not None:
                options["inputs_embeds"] = embeds.gather(1, order[..., None].expand_as(embeds))

        width, longest, limit = mask.shape[1], int((mask != 0).sum(-1).max()), self.config.max_position_embeddings
        advice = "cut the prompt (truncation=True, max_length=...) or ask for fewer new tokens (max_new_tokens=...)"
        if longest >= limit:
            raise ValueError(
                f"expected a prompt of fewer than {limit} tokens, which is how many positions the model has, got "
                f"{longest}; cut it (truncation=True, max_length=...) to leave room for what is to be written"
            )
        new, length = setting("max_new_tokens"), setting("max_length")
        if new is None and length == limit and options.get("max_length") is None:
            options["max_length"] = width + limit - longest
        elif new is not None or length is not None:
            new = length - width if new is None else new
            # The last one is written and not read, and needs no position.
            if longest + new - 1 > limit:
                raise ValueError(
                    f"expected a prompt and new tokens of {limit + 1} in all, for which the model has positions, got "
                    f"a prompt of {longest} and {new} new tokens; {advice}"
                )

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        before = model_kwargs.get("token_type_ids")
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *arguments, **options)
        if before is not None:
            # transformers repeats the last type; what is written is continuation, also after a prompt.
            written = model_kwargs["token_type_ids"].shape[1] - before.shape[1]
            model_kwargs["token_type_ids"] = torch.cat([before, before.new_ones(before.shape[0], written)], dim=-1)
        return model_kwargs

    def adjust_generation_fn(self, *arguments: Any, **options: Any) -> None:
        """Called by `from_pretrained`: the folder's generation_config.json, completed from its vocabulary."""
        super().adjust_generation_fn(*arguments, **options)
        names = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        folder = arguments[3] if len(arguments) > 3 else options.get("pretrained_model_name_or_path")
        found = None
        if folder is not None and self.generation_config.eos_token_id is None:
            place = {name: options[name] for name in names if options.get(name) is not None}
            # A folder without this file generates as well, without the defaults that depend on it.
            lenient = ("missing_entries", "connection_errors", "gated_repo")
            place.update({f"_raise_exceptions_for_{trouble}": False for trouble in lenient})
            found = cached_file(folder, "vocab.txt", **place)
        self._complete_generation_config(found)

    def _complete_generation_config(self, vocabulary_file: str | None) -> None:
        """Set what says nothing yet; the special tokens' ids only if there is a vocabulary."""
        settings = self.generation_config
        vocabulary = {} if vocabulary_file is None else load_vocabulary(vocabulary_file)
        never = [index for token, index in vocabulary.items() if NEVER_WRITTEN.fullmatch(token)]
        defaults = {
            "eos_token_id": vocabulary.get("[SEP]"),
            "pad_token_id": vocabulary.get("[PAD]"),
            "suppress_tokens": never or None,
            "do_sample": False,
            "max_length": None if settings.max_new_tokens is not None else self.config.max_position_embeddings,
        }
        for name, value in defaults.items():
            if getattr(settings, name, None) is None and value is not None:
                setattr(settings, name, value)


__all__ = ["UniLmGenerationMixin"]
