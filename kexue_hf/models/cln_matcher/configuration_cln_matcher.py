"""Configuration of the matcher with conditional layer norms: BERT's, with tasks and a choice of positions.

The configuration of a RoFormer, BERT or WoBERT is read as that of a matcher of the same sizes, because a matcher can
start from their weights.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_cln_matcher import AUTO_MAP


@strict
class ClnMatcherConfig(BertConfig):
    r"""Configuration of the matcher; all of [`BertConfig`]'s fields, and:

    Args:
        num_tasks (`int`, *optional*):
            Number of tasks, i.e. of standards by which two texts may match. Defaults to the number of `task_names`,
            or 1.
        task_names (`list[str]`, *optional*):
            Names of the tasks in the order of their ids; defaults to task_0, task_1, ...
        task_embedding_size (`int`, *optional*, defaults to 128):
            Size of a task embedding, from which every layer norm computes its scale and shift.
        position_embedding_type (`str`, *optional*, defaults to `"rotary"`):
            `"rotary"` as in RoFormer, or `"absolute"` as in BERT.
        pooling (`str`, *optional*, defaults to `"mean"`):
            Input of the classifier: `"mean"` is the mean of the last hidden states of all tokens except padding,
            `"cls"` the last hidden state of the first token.
        conditional (`bool`, *optional*, defaults to `True`):
            False in a model that `fold_task` made from one task: it has plain layer norms.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with a different one causes a warning.

    Raises:
        ValueError: a field has an invalid value, the number of names differs from the number of tasks, names repeat, a
            decoder is requested, or the configuration belongs to a model that no matcher can start from.
    """

    model_type = "cln_matcher"
    _auto_class = "AutoConfig"

    vocab_size: int = 50000
    num_tasks: int | None = None
    task_names: list[str] | None = None
    task_embedding_size: int = 128
    position_embedding_type: str = "rotary"
    pooling: str = "mean"
    conditional: bool = True
    vocab_fingerprint: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_tasks is None:
            self.num_tasks = 1 if self.task_names is None else len(self.task_names)
        if self.task_names is None:
            self.task_names = [f"task_{number}" for number in range(self.num_tasks)]
        self.check()
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise the errors named above. The models call it again, since fields may change after construction."""
        names, count = self.task_names or [], self.num_tasks or 0
        if count < 1 or self.task_embedding_size < 1:
            raise ValueError(
                f"num_tasks and task_embedding_size must be at least 1, got {count} and {self.task_embedding_size}"
            )
        if len(names) != count or not all(names) or len(set(names)) != count:
            raise ValueError(f"task_names must be {count} different names (num_tasks), got {names}")
        if self.position_embedding_type not in ("rotary", "absolute"):
            raise ValueError(
                f"position_embedding_type must be 'rotary' or 'absolute', got {self.position_embedding_type!r}"
            )
        if self.pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be 'mean' or 'cls', got {self.pooling!r}")
        if not self.conditional and count > 1:
            raise ValueError(f"a matcher with conditional=False has one task, got num_tasks={count}")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("the matcher is an encoder: set is_decoder and add_cross_attention to False")

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """Convert another model's configuration to a matcher's, to avoid transformers' warning about its type."""
        config_dict, rest = super().get_config_dict(*args, **kwargs)
        return cls._own(config_dict), rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a matcher's configuration, or convert a RoFormer's, BERT's or WoBERT's to a matcher of the same sizes.

        Raises:
            ValueError: the model type is not one of these; the network is a variant that a matcher does not have
                (rotated values, embeddings of another size, relative positions); or `task_names` is a single string.
        """
        if isinstance(kwargs.get("task_names"), str):
            raise ValueError(f"task_names must be a list of names, got the string {kwargs['task_names']!r:.60}")
        config_dict = cls._own(config_dict)
        # Before construction, because each of the two is derived from the other if it is missing.
        given = {key: kwargs.pop(key) for key in ("num_tasks", "task_names") if kwargs.get(key) is not None}
        if "task_names" in given:
            config_dict.pop("num_tasks", None)
        elif given and len(config_dict.get("task_names") or ()) != given["num_tasks"]:
            config_dict.pop("task_names", None)
        return super().from_dict({**config_dict, **given}, **kwargs)

    @classmethod
    def _own(cls, config_dict: dict[str, Any]) -> dict[str, Any]:
        found = config_dict.get("model_type")
        return dict(config_dict) if found in (None, cls.model_type) else _from_backbone(str(found), config_dict)


# The position type of a matcher that starts from each model type.
_POSITIONS = {"roformer": "rotary", "bert": "absolute", "wobert": "absolute"}
# Fields of another model's configuration that must not be carried over.
_MODEL_FIELDS = (
    "model_type",
    "architectures",
    "auto_map",
    "embedding_size",
    "rotary_value",
    "add_pooling_layer",
    "classifier_pooling",
    "summary_type",
    "summary_use_proj",
    "problem_type",
)
# Fields of a classifier, carried over only if it has the same input as the matcher's.
_CLASSIFIER_FIELDS = ("id2label", "label2id", "num_labels", "classifier_dropout")


def carried_pooling(config: dict[str, Any]) -> str | None:
    """Return the pooling of a WoBERT's classifier if a matcher can have it ("mean" or "cls"), else None.

    BERT's own classifier has a pooler before it.
    """
    pooling = config.get("classifier_pooling") if config.get("model_type") == "wobert" else None
    return pooling if pooling in ("mean", "cls") else None


def _from_backbone(model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    if model_type not in _POSITIONS:
        raise ValueError(f"a matcher can start from {', '.join(_POSITIONS)}, got a model of type {model_type!r}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("a matcher of BERT has absolute positions, got a BERT with relative ones")
    if config.get("rotary_value") or config.get("embedding_size") not in (None, config.get("hidden_size")):
        raise ValueError(
            "a matcher needs a RoFormer with embeddings of hidden_size and without rotated values, got "
            f"embedding_size {config.get('embedding_size')} and rotary_value {config.get('rotary_value')}"
        )
    pooling = carried_pooling(config)
    left = _MODEL_FIELDS if pooling else (*_MODEL_FIELDS, *_CLASSIFIER_FIELDS)
    kept = {key: value for key, value in config.items() if key not in left}
    kept["position_embedding_type"] = _POSITIONS[model_type]
    if pooling:
        kept["pooling"] = pooling
    return kept


__all__ = ["ClnMatcherConfig"]
