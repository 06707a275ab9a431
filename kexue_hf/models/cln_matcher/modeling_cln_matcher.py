"""A text matcher for several standards at once (https://kexue.fm/archives/8337), by conditional layer norms.

"Similar" means different things to different users. Each standard is a task with an embedding, and every layer norm of
a RoFormer (or BERT) computes its scale and shift from that embedding (https://kexue.fm/archives/7124). One network, a
few percent larger, serves all standards, and each row of a batch may have its own. Differences from RoFormer and BERT:

* Parameters are named as in transformers' BERT, even those of a RoFormer. `from_pretrained` accepts the folder of a
  RoFormer, BERT or WoBERT; the new matcher computes the same as that model to the last bit, whatever the task. (Matrix
  products may round differently in the last bit if a file's weights are memory-mapped at unaligned addresses.)
* `task_ids` selects the task: one for all texts, or one per text. With one, scale and shift are computed once and act
  as plain layer norms; with several, once per task.
* The classifier is one layer over the mean of the real tokens, [CLS] and [SEP] included (`config.pooling`); there is
  neither BERT's pooler nor RoFormer's two layers.
* All of transformers' attention implementations work with RoFormer's attention; transformers' RoFormer has "eager"
  only.
* The loss is the same under gradient accumulation and data parallelism as in one batch (`losses_cln_matcher.py`).
* It is an encoder only: no cross-attention, no cache. Their keywords, which BERT accepts, are refused.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedModel, RoFormerConfig, RoFormerModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_cln_matcher import ClnMatcherConfig, carried_pooling
from .keywords_cln_matcher import refuse_unknown
from .layers_cln_matcher import ClnMatcherEmbeddings, ClnMatcherEncoder, ClnMatcherLayer, ClnMatcherSelfAttention
from .losses_cln_matcher import text_classification_loss, widen
from .norm_cln_matcher import ClnMatcherLayerNorm
from .rotary_cln_matcher import ClnMatcherRotations, rotation_table
from .tasks_cln_matcher import group_tasks, read_task_ids, task_id

_RECORDED = {"hidden_states": ClnMatcherLayer, "attentions": ClnMatcherSelfAttention}
_NO_SPLIT = ["ClnMatcherEmbeddings", "ClnMatcherLayer"]
# Parameters of a backbone's file that a matcher does not have.
_IGNORED_WEIGHTS = [r"pooler\.", r"cls\.", r"embeddings\.(position_ids|token_type_ids)", r"embed_positions\."]
_ROFORMER = r"^roformer\."
# A backbone's classifier whose input or classes differ from the matcher's.
_OTHER_CLASSIFIER = r"^classifier\.(?=(weight|bias)$)"
_HUB_OPTIONS = ("cache_dir", "local_files_only", "proxies", "revision", "subfolder", "token")


class ClnMatcherPreTrainedModel(PreTrainedModel):
    """Base of all matcher classes: configuration, initialization, and loading from another model's folder."""

    config: ClnMatcherConfig
    config_class = ClnMatcherConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = _NO_SPLIT
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _IGNORED_WEIGHTS

    def __init__(self, config: ClnMatcherConfig, *inputs: Any, **kwargs: Any) -> None:
        # Not isinstance: a folder from the Hub has its own configuration class.
        if getattr(config, "model_type", None) != "cln_matcher":
            raise ValueError(
                f"expected a ClnMatcherConfig, got a {type(config).__name__}: omit `config`, or create one with "
                "ClnMatcherConfig.from_pretrained(folder)"
            )
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a matcher's folder, or start a matcher from the folder of a RoFormer, BERT or WoBERT.

        Such a folder lacks the task embeddings, the (zero) kernels of the layer norms, and the classifier unless it is
        a WoBERT's with the same input and classes. transformers reports these as new, and unused weights as unused.

        Args:
            task_names: names of the tasks in the order of their ids; or `num_tasks`, their number.
        """
        kwargs["key_mapping"] = {_ROFORMER: "bert.", **(kwargs.get("key_mapping") or {})}
        result = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = result[0] if isinstance(result, tuple) else result
        # transformers would save under the names it loaded from.
        renamings = getattr(model, "_weight_conversions", None) or []
        ours = {_ROFORMER, _OTHER_CLASSIFIER}
        model._weight_conversions = [one for one in renamings if not ours & set(one.source_patterns)]
        return result

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ClnMatcherLayerNorm) and module.weight_kernel is not None:
            init.zeros_(module.weight_kernel)
            init.zeros_(module.bias_kernel)
        elif isinstance(module, ClnMatcherRotations):
            init.copy_(module.table, rotation_table(module.length, module.dim))


class ClnMatcherModel(ClnMatcherPreTrainedModel):
    """Encoder under a task: ids [batch, length] -> states [batch, length, hidden], and pooled [batch, hidden]."""

    _auto_class = "AutoModel"

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__(config)
        if config.conditional:
            self.task_embeddings = nn.Embedding(config.num_tasks or 1, config.task_embedding_size)
        self.embeddings = ClnMatcherEmbeddings(config)
        self.encoder = ClnMatcherEncoder(config)
        if config.position_embedding_type == "rotary":
            self.rotations = ClnMatcherRotations(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        task_ids: Any = None,
        tasks: Any = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Return the states of all tokens and, as `pooler_output`, their pooling by `config.pooling`.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their embeddings [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; or in the form that the attention implementation takes.
            token_type_ids: segments [batch, length], 0 for the first text and 1 for the second; defaults to 0.
            position_ids: [batch or 1, length], by default 0, 1, ...; each below `max_position_embeddings`.
            task_ids: the task of all texts, or of each: an id or a name, a list of them, or a tensor of ids [], [1],
                [batch] or [batch, 1]. Defaults to 0 if there is only one task.
            tasks: another name of `task_ids`, for PEFT models of a task type, which use up `task_ids` themselves.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds`; both `task_ids` and `tasks`; texts longer
                than the positions; unknown tasks, or no task if the model has several; or a keyword of BERT that would
                be ignored: `past_key_values`, `encoder_hidden_states`, `encoder_attention_mask`.
        """
        refuse_unknown("the matcher", kwargs)
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError(
                f"expected either input_ids or inputs_embeds, got {'neither' if given is None else 'both'}"
            )
        if position_ids is None:
            length = given.shape[1]
            if length > self.config.max_position_embeddings:
                raise ValueError(
                    f"expected texts of at most {self.config.max_position_embeddings} tokens "
                    f"(max_position_embeddings), got {length}: truncate the longer of the two (truncation=True)"
                )
            position_ids = torch.arange(length, device=given.device)[None]
        conditions, rows = self._conditions(_only_one(task_ids, tasks), given)
        cosines, sines = self.rotations(position_ids) if hasattr(self, "rotations") else (None, None)
        states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, conditions, rows)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=attention_mask)
        states = self.encoder(states, mask, cosines, sines, conditions, rows, **kwargs)
        pooled = states[:, 0] if self.config.pooling == "cls" else masked_mean(states, attention_mask)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def _conditions(self, task_ids: Any, given: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the embeddings of the batch's distinct tasks, and the index of each text's task among them."""
        tasks = read_task_ids(task_ids, self.config.task_names or [], given.shape[0], given.device)
        if not self.config.conditional:
            return None, None
        compiling = torch.compiler.is_compiling()
        # Counting distinct tasks synchronises an accelerator; a compiled program serves any number of them.
        ask = tasks.device.type == "cpu" and not compiling
        needed, rows = group_tasks(tasks, self.task_embeddings.num_embeddings, ask=ask, fixed=compiling)
        return self.task_embeddings(needed), rows

    @torch.no_grad()
    def add_task(self, name: str, like: str | int | None = None) -> int:
        """Add a task; the other tasks stay the same to the last bit.

        The task embeddings become a new parameter: create the optimizer again.

        Args:
            name: name of the new task. like: name or id of the task whose embedding it starts from; by default the
                embedding is drawn as in a new model.

        Returns:
            The id of the new task.

        Raises:
            ValueError: the name is not a string or is taken, `like` is unknown, the model was folded, it has adapters,
                or the task embeddings were replaced by another kind of layer.
        """
        _refuse_adapters(self)
        names = list(self.config.task_names or [])
        if not self.config.conditional:
            raise ValueError("this model was folded to one task: add the task to the model it was made from")
        if not isinstance(name, str) or not name or name in names:
            raise ValueError(f"a new task needs an unused name, got {name!r:.60}; taken are {', '.join(names)}")
        if not isinstance(self.task_embeddings, nn.Embedding):
            raise ValueError(
                f"the tasks' vectors are held by a {type(self.task_embeddings).__name__}, not by an embedding: add "
                "the task to the original model"
            )
        old = self.task_embeddings.weight
        if like is None:
            new = torch.randn_like(old[:1]) * self.config.initializer_range
        else:
            new = old[task_id(like, names)][None]
        grown = nn.Embedding.from_pretrained(torch.cat((old, new)), freeze=not old.requires_grad)
        self.task_embeddings = grown.train(self.training)
        self.config.num_tasks, self.config.task_names = len(names) + 1, [*names, name]
        return len(names)

    @torch.no_grad()
    def fold_task(self, name: str | int) -> BertModel | RoFormerModel:
        """Return an ordinary encoder of transformers for one task: a RoFormer, or a BERT (without pooler).

        The result is a copy with the same states and without any of our code. It is a BERT if the matcher has absolute
        positions.

        Raises:
            ValueError: the task is unknown, or the model has adapters.
        """
        folded = _fold(self, name)
        fields = folded.config.to_dict()
        for key in _MATCHER_FIELDS:
            fields.pop(key, None)
        state = folded.state_dict()
        plain: BertModel | RoFormerModel
        with _preserved_random_state():
            # transformers' RoFormer has eager attention only.
            if self.config.position_embedding_type == "rotary":
                plain = RoFormerModel._from_config(RoFormerConfig(**fields), attn_implementation="eager")
                table = plain.encoder.embed_positions.weight
                state["encoder.embed_positions.weight"] = table.to(dtype=self.dtype, device=self.device)
            else:
                way = self.config._attn_implementation
                plain = BertModel._from_config(BertConfig(**fields), attn_implementation=way, add_pooling_layer=False)
        plain.to(dtype=self.dtype, device=self.device).load_state_dict(state, assign=True)
        return plain.train(self.training)


def _refuse_adapters(model: nn.Module) -> None:
    """Raise ValueError if the model has PEFT layers: an added task would not be saved with them."""
    for name, module in model.named_modules():
        # By module name: PEFT need not be installed.
        if any(kind.__module__.partition(".")[0] == "peft" for kind in type(module).__mro__):
            raise ValueError(
                f"this model has adapters (a {type(module).__name__} is its {name}), and a new task would not be "
                "saved with them: merge them first (merge_and_unload), and add the task to the resulting model"
            )


# Fields that the configurations of RoFormer and BERT do not have.
_MATCHER_FIELDS = (
    "model_type",
    "architectures",
    "auto_map",
    "num_tasks",
    "task_names",
    "task_embedding_size",
    "position_embedding_type",
    "pooling",
    "conditional",
)


def _fold(model: Any, task: str | int) -> Any:
    """Return a copy of the model for one task, of the same class, with plain layer norms."""
    number = task_id(task, model.config.task_names)
    config = copy.deepcopy(model.config)
    config.num_tasks, config.task_names, config.conditional = 1, [model.config.task_names[number]], False
    with _preserved_random_state():
        folded = type(model)._from_config(config, dtype=model.dtype).to(model.device)
    state = dict(model.state_dict())
    if model.config.conditional:
        base = model.base_model
        condition = base.task_embeddings(torch.tensor([number], device=model.device))
        for name, module in model.named_modules():
            if isinstance(module, ClnMatcherLayerNorm):
                scale, shift = module.scale_and_shift(condition)
                state[f"{name}.weight"], state[f"{name}.bias"] = scale[0], shift[0]
                for kernel in ("weight_kernel", "bias_kernel"):
                    state.pop(f"{name}.{kernel}", None)
        state = {name: value for name, value in state.items() if "task_embeddings." not in name}
    foreign = sorted(set(state) - set(folded.state_dict()))
    if foreign:
        raise ValueError(
            f"this model has parameters that no matcher has, such as {foreign[0]}: merge its adapters first "
            "(merge_and_unload), and fold the resulting model"
        )
    # Assigned, not copied into the new parameters: float32 layer norms of a half-precision model stay float32.
    folded.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return folded.train(model.training)


@contextlib.contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restore the random state afterwards: new parameters, which are overwritten, must not change a training."""
    device = torch.get_default_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _only_one(task_ids: Any, tasks: Any) -> Any:
    if task_ids is not None and tasks is not None:
        raise ValueError("task_ids and tasks are two names of one argument, got both: give only one")
    return tasks if task_ids is None else task_ids


# Copied from modeling_wobert.masked_mean
def masked_mean(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean over the real tokens, special ones included: [batch, length, hidden] -> [batch, hidden].

    Args:
        hidden_states: of any floating type; the sum is computed in float32 or wider.
        attention_mask: [batch, length], nonzero where a token is real; or [batch, heads or 1, queries, length],
            boolean or additive (0 or very negative), where a token is real if any query may attend to it; None means
            that all tokens are real. The mean of a row without real tokens is 0.
    """
    states = widen(hidden_states)
    if attention_mask is None:
        return states.mean(1).to(hidden_states.dtype)
    if attention_mask.dim() == 2:
        real = attention_mask != 0
    else:
        real = attention_mask if attention_mask.dtype == torch.bool else attention_mask > -1
        real = real.flatten(1, -2).any(1)
    real = real.to(states.device)[..., None]
    # Not multiplied by the mask: masked states may be infinite in float16.
    mean = states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
    return mean.to(hidden_states.dtype)


class ClnMatcherForSequenceClassification(ClnMatcherPreTrainedModel):
    """The matcher: whether two texts match by the standard of the task. All tasks share one classifier.

    `logits` [batch, num_labels]; `labels` are classes [batch], values [batch] or [batch, num_labels] for regression,
    or zeros and ones [batch, num_labels] (float) for multi-label. `config.problem_type` selects one of these; if it is
    None, it is set from the first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__(config)
        self.bert = ClnMatcherModel(config)
        # The original has no dropout here; `classifier_dropout` adds one.
        self.dropout = nn.Dropout(config.classifier_dropout or 0.0)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load the model; drop a backbone's classifier that does not fit. See `ClnMatcherPreTrainedModel`."""
        if _has_other_classifier(pretrained_model_name_or_path, kwargs):
            # Tells `_finalize_model_loading`: transformers itself undoes a renaming to an unknown name.
            kwargs["key_mapping"] = {_OTHER_CLASSIFIER: "backbone_classifier.", **(kwargs.get("key_mapping") or {})}
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @staticmethod
    def _finalize_model_loading(model: Any, load_config: Any, loading_info: Any) -> Any:
        """Report a classifier that was made for another input or other classes as missing."""
        if any(_OTHER_CLASSIFIER in getattr(one, "source_patterns", ()) for one in load_config.weight_mapping or ()):
            for name, parameter in model.classifier.named_parameters():
                parameter._is_hf_initialized = False
                loading_info.missing_keys.add(f"classifier.{name}")
            loading_info.mismatched_keys = {
                one for one in loading_info.mismatched_keys if not one[0].startswith("classifier.")
            }
        return ClnMatcherPreTrainedModel._finalize_model_loading(model, load_config, loading_info)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        task_ids: Any = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        tasks: Any = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify texts; shapes are in the class docstring, inputs in `ClnMatcherModel`.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum divided by this number instead of their mean.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, _only_one(task_ids, tasks),
            return_dict=True, **kwargs,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None
        if labels is not None:
            loss = text_classification_loss(logits, labels.to(logits.device), self.config, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def add_task(self, name: str, like: str | int | None = None) -> int:
        """Add a task, see `ClnMatcherModel.add_task`."""
        _refuse_adapters(self)
        return self.bert.add_task(name, like)

    @torch.no_grad()
    def fold_task(self, name: str | int) -> "ClnMatcherForSequenceClassification":
        """Return an ordinary classifier for one task: plain layer norms, no task embeddings, no `task_ids`.

        The result is a copy with this model's logits for the task. It has the parameters of a RoFormer or BERT and a
        linear layer. It keeps this class because no classifier of transformers pools by the mean;
        `model.bert.fold_task(name)` returns its encoder as a class of transformers.

        Raises:
            ValueError: the task is unknown, or the model has adapters.
        """
        folded: ClnMatcherForSequenceClassification = _fold(self, name)
        return folded


def _has_other_classifier(folder: Any, options: dict[str, Any]) -> bool:
    """Return whether the folder's model may have a classifier that the new matcher cannot use.

    Args:
        folder: a folder or a name on the Hub. options: those of `from_pretrained`.
    """
    if folder is None:
        return False
    try:
        found, _ = BertConfig.get_config_dict(folder, **{key: options[key] for key in _HUB_OPTIONS if key in options})
    except OSError:
        return False  # No configuration, or none that can be downloaded: loading it raises the error.
    if found.get("model_type") in (None, ClnMatcherConfig.model_type):
        return False
    pooling = carried_pooling(found)
    classes = len(found.get("id2label") or ()) or found.get("num_labels") or 2
    config = options.get("config")
    asked = {name: options.get(name, getattr(config, name, None)) for name in ("pooling", "num_labels", "id2label")}
    wanted = asked["num_labels"] or len(asked["id2label"] or ()) or classes
    return pooling is None or (asked["pooling"] or pooling) != pooling or wanted != classes


__all__ = ["ClnMatcherForSequenceClassification", "ClnMatcherModel", "ClnMatcherPreTrainedModel"]
