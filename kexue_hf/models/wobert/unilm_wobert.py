"""UniLM (https://kexue.fm/archives/6933): generation by a masked language model under another attention mask.

A text is a prompt (token type 0) and its continuation (token type 1). A prompt token sees the whole prompt; a
continuation token sees the prompt, the continuation before it and itself. The weights of a masked language model stay
as they are; this module adds the mask, `generate()` and the shifted loss. Differences from transformers' decoders:

* The mask comes from `token_type_ids`, by bert4keras' rule. After a continuation token all others count as
  continuation, whatever their type.
* Without `token_type_ids` the whole input is prompt. `generate()` gives its new tokens the type 1.
* Positions count real tokens only, so a left-padded prompt gets the same answer as alone. A 4-dimensional mask does
  not show which tokens are real: it needs `position_ids`.
* `generate()` also accepts right padding (it moves it to the left), stops at [SEP] or at the last position, and never
  writes [CLS], [MASK], [PAD], [UNK] or an [unused...] token. These defaults are read from the folder's vocab.txt, if
  there is one; the folder's configuration takes precedence. A request for more tokens than there are positions raises
  an error before generation starts.
* The prompt is read at once, because its states depend on all of it: no chunked prefill, no assisted decoding and no
  continuous batching.
* Static caches work; nothing is compiled automatically (`_can_compile_fullgraph` stays False).
"""

import copy
import re
import warnings
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import cached_file, can_return_tuple

from .bert_keywords_wobert import bert_keywords
from .cache_name_wobert import CACHE, given_cache, under_installed_name
from .losses_wobert import cross_entropy
from .unilm_mask_wobert import first_disorder, unilm_mask
from .vocabulary_wobert import load_vocabulary

NEVER_WRITTEN = re.compile(r"\[(CLS|MASK|PAD|UNK|unused\d+)\]")


class UniLmGenerationMixin(GenerationMixin):
    """Mixin that turns a BERT-like model with a masked-word head into a UniLM with the same weights.

    It comes before that model in the bases. The model has a base model under `base_model_prefix`, which takes a cache,
    and the head `cls`.
    """

    # Flash attention knows causal and full masks only; FlexAttention is not tested.
    _supports_flash_attn = False
    _supports_flex_attn = False
    # Linear attention forms no pairs: `use_performer` refuses models with this flag.
    needs_pairwise_mask = True
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
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Any = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return the scores of the token after each token, `logits` [batch, length, vocabulary].

        Args:
            attention_mask: [batch, past + length], 0 for padding on either side; or one of 4 dimensions, which is used
                unchanged and needs `position_ids`.
            token_type_ids: [batch, length], 0 for the prompt and then 1 for the continuation; None: all are prompt. A
                0 after a 1 causes a warning and counts as 1.
            position_ids: [batch, length]; defaults to the number of real tokens before each.
            past_key_values: a cache of the preceding tokens; its prompt does not see the new tokens.
            use_cache: whether to return a cache; by default only if one was given (`generate` requests one).
            labels: ids [batch, length], -100 where there is no loss; that of token i is predicted at token i - 1.
                Only continuation tokens should have labels, since prompt tokens are visible to those before them. Not
                with `logits_to_keep`, which needs `shift_labels`.
            num_items_in_batch: labels (not -100) in the whole accumulated batch; the loss is then their sum divided by
                this number.
            logits_to_keep: score only this many last tokens (0: all), or those at these indices (1-D).
            cache: transformers' name for `past_key_values` from 5.24 on.
            shift_labels (in `kwargs`, since `Trainer` requires every named label): instead of `labels`, the id to
                predict at each of the `logits`.

        Raises:
            ValueError: more tokens than positions, a mask that does not cover all tokens or lacks `position_ids`, or
                labels that need a shift.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("expected input_ids or inputs_embeds, got neither")
        shift_labels = kwargs.pop("shift_labels", None)
        keywords = bert_keywords(self.config, {**kwargs})
        cache = given_cache(cache, past_key_values)
        if labels is not None and shift_labels is None and (torch.is_tensor(logits_to_keep) or logits_to_keep):
            raise ValueError(
                "labels belong to all tokens, but logits_to_keep drops some; give shift_labels instead, the ids to "
                "predict at the kept tokens"
            )
        batch, length = given.shape[:2]
        watched = not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        past = 0 if cache is None else cache.get_seq_length()
        # A static cache's length is a tensor, and `generate` gives such a cache a mask of 4 dimensions.
        static = getattr(cache, "is_compileable", False)
        width = attention_mask.shape[1] if attention_mask is not None and attention_mask.dim() == 2 else None
        if watched and not static and width not in (None, past + length):
            raise ValueError(
                f"expected an attention_mask of all {past + length} tokens, {past} in the cache and {length} new, got "
                f"one of {width}; give the whole text's mask, or none if there is no padding"
            )
        # A warning, not an error: the answer is well defined, and transformers' own tests use random types.
        if watched and token_type_ids is not None and length > 1:
            disorder = first_disorder(token_type_ids, attention_mask)
            if disorder is not None:
                # The frames up to the model's caller are can_return_tuple and two of torch's Module.
                warnings.warn(f"{disorder}; it counts as 1", UserWarning, stacklevel=5)
        if position_ids is None:
            if attention_mask is None:
                position_ids = torch.arange(length, device=given.device)[None] + past
            elif attention_mask.dim() == 2:
                real = attention_mask != 0
                position_ids = ((real.cumsum(-1) - 1) * real)[:, -length:]
            else:
                raise ValueError(
                    f"expected position_ids with an attention_mask of {attention_mask.dim()} dimensions, which does "
                    f"not show the padding; give them, or a mask [batch, length]"
                )
        limit = self.config.max_position_embeddings
        # Count the tokens first: reading the positions makes a GPU wait.
        if watched and past + length > limit and (needed := int(position_ids.max()) + 1) > limit:
            raise ValueError(
                f"expected at most {limit} tokens (the model's positions), got {needed}; cut the prompt "
                f"(truncation=True, max_length=...) or ask for fewer new tokens (max_new_tokens=...)"
            )

        embeddings = self.get_input_embeddings().weight
        mask = unilm_mask(
            self.config,
            torch.empty(batch, length, 0, dtype=embeddings.dtype, device=given.device),
            attention_mask,
            token_type_ids=token_type_ids,
            cache=cache,
        )
        outputs = getattr(self, self.base_model_prefix)(
            input_ids,
            attention_mask=mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **{CACHE: cache},
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
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            # The encoder returns none: it fills the given one.
            **{CACHE: cache if use_cache is not False else None},
        )

    def generate(
        self, inputs: Any = None, generation_config: GenerationConfig | None = None, *arguments: Any, **options: Any
    ) -> Any:
        """Generate a continuation; `token_type_ids` (default: all 0) separate the prompt from its start.

        Rows with padding on the right come back with it on the left.

        Raises:
            ValueError: no prompt, segments in the wrong order or unknown to the model, a prompt or a number of new
                tokens that exceeds the positions, or a generation method that reads the prompt in parts.
        """
        # These would compute the first part of a prompt, or guessed tokens, as if nothing followed.
        for name in ("prefill_chunk_size", "prompt_lookup_num_tokens", "assistant_model", "assistant_early_exit"):
            # The call's own value takes precedence, even a None over a configuration.
            configured = self._setting(name, generation_config, {})
            if options.get(name, configured) is not None:
                raise ValueError(
                    f"{name} is not possible with a UniLM, which reads the prompt at once; leave it out, and out of "
                    f"the generation_config"
                )
        if inputs is not None and options.get("input_ids") is None:
            inputs, options["input_ids"] = None, inputs
        options = under_installed_name(options)
        prompt = options.get("inputs_embeds")
        prompt = options.get("input_ids") if prompt is None else prompt
        if prompt is None or prompt.dim() < 2:
            raise ValueError("expected a prompt of at least one token: input_ids [batch, length] or inputs_embeds")
        # A copy: it belongs to the caller, and `_check_prompt` may set a default in it.
        generation_config = copy.copy(generation_config)
        self._check_prompt(prompt, generation_config, options)
        return super().generate(inputs, generation_config, *arguments, **options)

    def init_continuous_batching(self, *_: Any, **__: Any) -> Any:
        """Refuse continuous batching, which reads a prompt causally, each token without those after it.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "continuous batching is not possible with a UniLM, which reads the prompt in both directions; use generate"
        )

    generate_batch = init_continuous_batching

    def _prepare_generated_length(self, generation_config: Any, *arguments: Any, **options: Any) -> Any:
        # The model's own length is a default; transformers would report a contradiction.
        default = generation_config.max_length == self.generation_config.max_length
        if generation_config.max_new_tokens is not None and default:
            generation_config.max_length = None
        return super()._prepare_generated_length(generation_config, *arguments, **options)

    def _setting(self, name: str, generation_config: GenerationConfig | None, options: dict) -> Any:
        """Return the first value that is not None among the call's, its configuration's and the model's."""
        for source in (options, vars(generation_config) if generation_config else {}, vars(self.generation_config)):
            if source.get(name) is not None:
                return source[name]
        return None

    def _check_prompt(self, prompt: torch.Tensor, generation_config: GenerationConfig | None, options: dict) -> None:
        """Complete `options` with mask and types, move all padding to the left, and set the default end.

        The end is set in `options`, or in `generation_config` if one is given.
        """
        mask = options.get("attention_mask")
        if mask is None:
            pad = self._setting("pad_token_id", generation_config, options)
            mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
            if pad is not None and prompt.dim() == 2 and options.get(CACHE) is None:
                mask = (prompt != pad).long()
        elif mask.dim() != 2:
            raise ValueError(f"expected an attention_mask [batch, length], got {tuple(mask.shape)}")
        if bool((empty := ~(mask != 0).any(-1)).any()):
            raise ValueError(f"expected a prompt of at least one token, got none in row {int(empty.nonzero()[0])}")
        kinds = self.config.type_vocab_size
        if kinds < 2:
            raise ValueError(f"expected a type_vocab_size of 2, because the continuation has type 1, got {kinds}")
        types = options.get("token_type_ids")
        if types is None:
            types = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        elif types.shape != mask.shape:
            raise ValueError(
                f"expected token_type_ids of the prompt's shape {tuple(mask.shape)}, got {tuple(types.shape)}"
            )
        elif int(types.min()) < 0 or int(types.max()) >= kinds:
            raise ValueError(
                f"expected token_type_ids below {kinds} (type_vocab_size), 0 for the prompt and 1 for its "
                f"continuation, got {int(types.min())} to {int(types.max())}"
            )
        elif (disorder := first_disorder(types, mask)) is not None:
            raise ValueError(disorder)
        options["attention_mask"], options["token_type_ids"] = mask, types
        if bool((mask[:, -1] == 0).any()):
            if options.get(CACHE) is not None:
                raise ValueError("expected padding on the left when continuing a cache, got it on the right")
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
                f"expected a prompt of fewer than {limit} tokens (the model's positions), got {longest}; cut it "
                f"(truncation=True, max_length=...) to leave room for new tokens"
            )
        new, length = (self._setting(name, generation_config, options) for name in ("max_new_tokens", "max_length"))
        if new is None and length == limit and options.get("max_length") is None:
            # transformers warns about an option beside a configuration.
            place = options if generation_config is None or "max_length" in options else vars(generation_config)
            place["max_length"] = width + limit - longest
        elif new is not None or length is not None:
            new = length - width if new is None else new
            # The last token is written but not read, so it needs no position.
            if longest + new - 1 > limit:
                raise ValueError(
                    f"expected a prompt and new tokens of at most {limit + 1} in all (the model's positions), got "
                    f"a prompt of {longest} and {new} new tokens; {advice}"
                )

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        before = model_kwargs.get("token_type_ids")
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *arguments, **options)
        if before is not None:
            # transformers repeats the last type; new tokens are continuation, even after a prompt.
            written = model_kwargs["token_type_ids"].shape[1] - before.shape[1]
            model_kwargs["token_type_ids"] = torch.cat([before, before.new_ones(before.shape[0], written)], dim=-1)
        return model_kwargs

    def adjust_generation_fn(self, *arguments: Any, **options: Any) -> None:
        """Complete the folder's generation_config.json from its vocabulary; `from_pretrained` calls this."""
        super().adjust_generation_fn(*arguments, **options)
        names = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        folder = arguments[3] if len(arguments) > 3 else options.get("pretrained_model_name_or_path")
        found, said = None, vars(self.generation_config)
        depending = ("eos_token_id", "pad_token_id", "suppress_tokens")
        if folder is not None and any(said.get(name) is None for name in depending):
            place = {name: options[name] for name in names if options.get(name) is not None}
            # A folder without this file can generate too, without the defaults that depend on it.
            lenient = ("missing_entries", "connection_errors", "gated_repo")
            place.update({f"_raise_exceptions_for_{trouble}": False for trouble in lenient})
            found = cached_file(folder, "vocab.txt", **place)
        self._complete_generation_config(found)

    def _complete_generation_config(self, vocabulary_file: str | None) -> None:
        """Set the settings that are missing; the special tokens' ids only if there is a vocabulary."""
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
