"""A text matcher for many standards at once, by conditional layer norms (https://kexue.fm/archives/8337, of 7124).

"Similar" means one thing to one user and another to the next. Each standard is a task; a task has a vector, and every
layer norm of a RoFormer (or a BERT) makes its scale and shift of that vector. One network, a few percent larger,
judges by all standards, and each row of a batch by its own. How it departs from RoFormer and BERT:

* Parameters are called as in transformers' BERT, a RoFormer's too. `from_pretrained` takes the folder of a RoFormer, a
  BERT or a WoBERT, and what it starts as computes what that one does, to the last bit, whatever the task. (Where a
  file's weights are mapped into memory at odd addresses, matrix products may round otherwise in the last bit.)
* `task_ids` says which task: one for all texts, or one for each. With one for all, scale and shift are computed once
  and are those of plain layer norms; with several, once for each.
* A text is classified by the mean over its real tokens, [CLS] and [SEP] included (`config.pooling`), in one layer;
  neither BERT's pooler nor RoFormer's two layers.
* RoFormer's attention comes in all of transformers' implementations; its own has but "eager".
* The loss is the same under gradient accumulation and data parallelism as in one batch (`losses_cln_matcher.py`).
* It is an encoder only: no cross-attention, no cache. These, which BERT's users may pass, are refused.
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
_UNDIVIDED = ["ClnMatcherEmbeddings", "ClnMatcherLayer"]
# What a backbone's file may have and a matcher has not.
_PASSED_OVER = [r"pooler\.", r"cls\.", r"embeddings\.(position_ids|token_type_ids)", r"embed_positions\."]
_ROFORMER = r"^roformer\."
# A classifier that was made for something else than what a matcher's classifies.
_OTHER_CLASSIFIER = r"^classifier\.(?=(weight|bias)$)"
_HUB_OPTIONS = ("cache_dir", "local_files_only", "proxies", "revision", "subfolder", "token")


class ClnMatcherPreTrainedModel(PreTrainedModel):
    """What all classes share: configuration, initialization, how they start from another model's folder."""

    config: ClnMatcherConfig
    config_class = ClnMatcherConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = _UNDIVIDED
    _can_record_outputs = _RECORDED
    _keys_to_ignore_on_load_unexpected = _PASSED_OVER

    def __init__(self, config: ClnMatcherConfig, *inputs: Any, **kwargs: Any) -> None:
        # Not isinstance: the configuration of a folder from the Hub is a class of its own.
        if getattr(config, "model_type", None) != "cln_matcher":
            raise ValueError(
                f"a matcher needs a ClnMatcherConfig, got a {type(config).__name__}: leave it out, or make one of it "
                "with ClnMatcherConfig.from_pretrained(folder)"
            )
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """As in all of transformers, from a matcher's folder, or from one of a RoFormer, a BERT or a WoBERT.

        What such a folder lacks is new: the tasks' vectors, the zero kernels of the layer norms, and the classifier,
        unless it is a WoBERT's that classifies what this one is to classify. transformers reports it, as it does
        whatever of the folder has no use here.

        Args:
            task_names: what the tasks are called, in the order of their ids; or `num_tasks`, how many there are.
        """
        kwargs["key_mapping"] = {_ROFORMER: "bert.", **(kwargs.get("key_mapping") or {})}
        result = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = result[0] if isinstance(result, tuple) else result
        # transformers would save under the names that it loaded from.
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
    """The encoder under a task: ids [batch, length] -> states [batch, length, hidden], and pooled [batch, hidden]."""

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
        """The states of all tokens, and as `pooler_output` what `config.pooling` makes of them.

        Args:
            input_ids: [batch, length]; or `inputs_embeds`, their vectors [batch, length, hidden].
            attention_mask: [batch, length], 0 for padding; or as the implementation of attention takes it.
            token_type_ids: segments [batch, length], 0 for the first text and 1 for the second; by default 0.
            position_ids: [batch or 1, length], by default 0, 1, ...; each below `max_position_embeddings`.
            task_ids: the task of all texts, or of each: an id or a name, a list of them, or a tensor of ids [], [1],
                [batch] or [batch, 1]. By default 0, where there is one task only.
            tasks: the same by another name: PEFT's models of a task type take a `task_ids` of their own, and do not
                pass it on.

        Raises:
            ValueError: both or none of `input_ids` and `inputs_embeds`; both of `task_ids` and `tasks`; texts longer
                than the positions; tasks that the model has not, or none where it has several; or something that BERT
                takes and the matcher has no place for: `past_key_values`, `encoder_hidden_states`,
                `encoder_attention_mask`.
        """
        refuse_unknown("the matcher", kwargs)
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("give either input_ids or inputs_embeds")
        if position_ids is None:
            length = given.shape[1]
            if length > self.config.max_position_embeddings:
                raise ValueError(
                    f"texts of at most {self.config.max_position_embeddings} tokens (max_position_embeddings), got "
                    f"{length}: truncate the longer of the two (truncation=True)"
                )
            position_ids = torch.arange(length, device=given.device)[None]
        conditions, rows = self._conditions(_either(task_ids, tasks), given)
        cosines, sines = self.rotations(position_ids) if hasattr(self, "rotations") else (None, None)
        states = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, conditions, rows)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=attention_mask)
        states = self.encoder(states, mask, cosines, sines, conditions, rows, **kwargs)
        pooled = states[:, 0] if self.config.pooling == "cls" else masked_mean(states, attention_mask)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def _conditions(self, task_ids: Any, given: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The vectors of the batch's tasks, each once, and which of them holds for each text."""
        tasks = read_task_ids(task_ids, self.config.task_names or [], given.shape[0], given.device)
        if not self.config.conditional:
            return None, None
        compiling = torch.compiler.is_compiling()
        # How many are distinct, an accelerator would have to be waited for; a compiled program is for any number.
        ask = tasks.device.type == "cpu" and not compiling
        needed, rows = group_tasks(tasks, self.task_embeddings.num_embeddings, ask=ask, fixed=compiling)
        return self.task_embeddings(needed), rows

    @torch.no_grad()
    def add_task(self, name: str, like: str | int | None = None) -> int:
        """Add a task to a model, whose other tasks stay as they are, to the last bit.

        The vectors are another parameter afterwards: make the optimizer anew.

        Args:
            name: what it is called. like: the task, by name or id, that it begins as; by default its vector is drawn
                as those of a new model are.

        Returns:
            Its id.

        Raises:
            ValueError: the name is no text or taken, `like` is unknown, the model was folded, there are adapters in
                the model, or something else has put another layer into the place of the tasks' vectors.
        """
        _refuse_adapters(self)
        names = list(self.config.task_names or [])
        if not self.config.conditional:
            raise ValueError("this model was folded to one task: add a task to the model that it was made of")
        if not isinstance(name, str) or not name or name in names:
            raise ValueError(f"a new task needs a name of its own, got {name!r:.60}; taken are {', '.join(names)}")
        if not isinstance(self.task_embeddings, nn.Embedding):
            raise ValueError(
                f"the tasks' vectors are held by a {type(self.task_embeddings).__name__}, not by an embedding: add "
                "the task to the model as it was before"
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
        """This model under one task as an ordinary encoder of transformers: a RoFormer, or with absolute positions a
        BERT (without its pooler). Its states are the same; it is a copy and needs none of our code.

        Raises:
            ValueError: the task is unknown, or there are adapters in the model.
        """
        folded = _fold(self, name)
        fields = folded.config.to_dict()
        for key in _ONLY_OURS:
            fields.pop(key, None)
        state = folded.state_dict()
        plain: BertModel | RoFormerModel
        with _nothing_drawn():
            # RoFormer's attention is always eager.
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
    """Raise ValueError for PEFT's layers in a model: a task that is added beside them would not be saved with them."""
    for name, module in model.named_modules():
        # Not by its classes, which need not be installed.
        if any(kind.__module__.partition(".")[0] == "peft" for kind in type(module).__mro__):
            raise ValueError(
                f"this model has adapters (a {type(module).__name__} is its {name}), with which a new task would not "
                "be saved: merge them first (merge_and_unload), and add the task to the model that this gives"
            )


# What RoFormer's and BERT's configurations have no use for.
_ONLY_OURS = (
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
    """A copy of a model under one task, as one of the same class with plain layer norms."""
    number = task_id(task, model.config.task_names)
    config = copy.deepcopy(model.config)
    config.num_tasks, config.task_names, config.conditional = 1, [model.config.task_names[number]], False
    with _nothing_drawn():
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
            "(merge_and_unload), and fold the model that this gives"
        )
    # Not copied into the new parameters: layer norms that are in float32 in a model of half precision stay so.
    folded.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return folded.train(model.training)


@contextlib.contextmanager
def _nothing_drawn() -> Iterator[None]:
    """New parameters, which are overwritten, cost the caller no random numbers: a training goes on as without them."""
    device = torch.get_default_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _either(task_ids: Any, tasks: Any) -> Any:
    if task_ids is not None and tasks is not None:
        raise ValueError("give either task_ids or tasks, which are one thing")
    return tasks if task_ids is None else task_ids


# Copied from modeling_wobert.masked_mean
def masked_mean(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """The mean over the real tokens, special ones included: [batch, length, hidden] -> [batch, hidden].

    Args:
        hidden_states: of any floating type; the sum is made in float32 or wider.
        attention_mask: [batch, length], not 0 where a token is real; or [batch, heads or 1, queries, length], boolean
            or to be added to the scores (0 or very negative), where a token is real that any query may attend to;
            None means that all are. A row without real tokens has the mean 0.
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
    # Not times the mask: what is left out may be infinite in float16.
    mean = states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
    return mean.to(hidden_states.dtype)


class ClnMatcherForSequenceClassification(ClnMatcherPreTrainedModel):
    """The matcher: do two texts match, by the standard that the task is? One classifier serves all tasks.

    `logits` [batch, num_labels]; `labels` classes [batch], values [batch] or [batch, num_labels] for regression, or
    zeros and ones [batch, num_labels] (float) for multi-label: which of them, `config.problem_type` says, or else the
    first batch's labels.
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__(config)
        self.bert = ClnMatcherModel(config)
        # The original drops nothing here: `classifier_dropout` does, if it is set.
        self.dropout = nn.Dropout(config.classifier_dropout or 0.0)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """See `ClnMatcherPreTrainedModel.from_pretrained`."""
        if _has_other_classifier(pretrained_model_name_or_path, kwargs):
            # Says so to `_finalize_model_loading`: transformers itself undoes a renaming to a name that is not there.
            kwargs["key_mapping"] = {_OTHER_CLASSIFIER: "backbone_classifier.", **(kwargs.get("key_mapping") or {})}
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @staticmethod
    def _finalize_model_loading(model: Any, load_config: Any, loading_info: Any) -> Any:
        """As in all of transformers; a classifier that was made for something else has not been loaded."""
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
        """See the class for the shapes of `logits` and `labels`; the other inputs are `ClnMatcherModel`'s.

        Args:
            num_items_in_batch: entries of `labels` (not -100) in the whole accumulated batch; the loss is then their
                sum / this number instead of their mean.
        """
        outputs = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, _either(task_ids, tasks),
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
        """This model under one task as an ordinary classifier: plain layer norms, no vectors of tasks, no `task_ids`.

        A copy; its logits are this model's for the task. It has the parameters of a RoFormer or a BERT and a linear
        layer, and is of this class because no classifier of transformers takes the mean over the tokens;
        `model.bert.fold_task(name)` is its encoder as one of transformers' own.

        Raises:
            ValueError: the task is unknown, or there are adapters in the model.
        """
        folded: ClnMatcherForSequenceClassification = _fold(self, name)
        return folded


def _has_other_classifier(folder: Any, options: dict[str, Any]) -> bool:
    """Whether a folder's model may have a classifier that is of no use to the matcher which is made of it.

    Args:
        folder: or a name on the Hub. options: as of `from_pretrained`.
    """
    if folder is None:
        return False
    try:
        found, _ = BertConfig.get_config_dict(folder, **{key: options[key] for key in _HUB_OPTIONS if key in options})
    except OSError:
        return False  # There is no configuration, or none to be had: whoever loads it says so.
    if found.get("model_type") in (None, ClnMatcherConfig.model_type):
        return False
    pooling = carried_pooling(found)
    classes = len(found.get("id2label") or ()) or found.get("num_labels") or 2
    config = options.get("config")
    asked = {name: options.get(name, getattr(config, name, None)) for name in ("pooling", "num_labels", "id2label")}
    wanted = asked["num_labels"] or len(asked["id2label"] or ()) or classes
    return pooling is None or (asked["pooling"] or pooling) != pooling or wanted != classes


__all__ = ["ClnMatcherForSequenceClassification", "ClnMatcherModel", "ClnMatcherPreTrainedModel"]
