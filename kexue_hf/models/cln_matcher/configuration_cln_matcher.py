"""Configuration of the matcher with conditional layer norms: BERT's, with tasks and a choice of positions.

The configuration of a RoFormer, a BERT or a WoBERT is read as one of the same sizes: a matcher starts from their
weights.
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
            Number of tasks, that is of standards by which two texts may match. By default the number of `task_names`,
            or 1.
        task_names (`list[str]`, *optional*):
            What they are called, in the order of their ids; by default task_0, task_1, ...
        task_embedding_size (`int`, *optional*, defaults to 128):
            Length of a task's vector, from which every layer norm's scale and shift are made.
        position_embedding_type (`str`, *optional*, defaults to `"rotary"`):
            `"rotary"` as in RoFormer, or `"absolute"` as in BERT.
        pooling (`str`, *optional*, defaults to `"mean"`):
            What is classified: `"mean"` is the mean of the last hidden states of all tokens that are not padding,
            `"cls"` the last hidden state of the first token.
        conditional (`bool`, *optional*, defaults to `True`):
            False in a model that `fold_task` made of one task: it has plain layer norms.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with another one is warned about.

    Raises:
        ValueError: a value that none of these has, names that are not as many as the tasks or not all different, a
            decoder is asked for, or the configuration is of a model that no matcher can start from.
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
        # As in WoBERT: with all classes in the file every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise the errors named above. The models call it again, for fields may have been set afterwards."""
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
            raise ValueError(f"a matcher without conditions (conditional=False) has one task, got {count}")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("the matcher is an encoder: is_decoder and add_cross_attention must be False")

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> Any:
        """As in all of transformers; another model's is a matcher's already, lest transformers warns of its type."""
        config_dict, rest = super().get_config_dict(*args, **kwargs)
        return cls._own(config_dict), rest

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in all of transformers; another model's configuration becomes a matcher's of the same sizes.

        Raises:
            ValueError: it is of none of RoFormer, BERT and WoBERT, or of one of these with a network of its own
                (values that are rotated, embeddings of another size, relative positions); or `task_names` is a single
                string.
        """
        if isinstance(kwargs.get("task_names"), str):
            raise ValueError(f"task_names must be a list of names, got the string {kwargs['task_names']!r:.60}")
        config_dict = cls._own(config_dict)
        # Here, and not set afterwards: one is made of the other where it is not given.
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


# Which positions a matcher has that starts from a model of the type.
_POSITIONS = {"roformer": "rotary", "bert": "absolute", "wobert": "absolute"}
# What must not be carried over from another model's configuration.
_OF_ITS_OWN_MODEL = (
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
# What belongs to a classifier. It is carried over only where it classifies what a matcher's does.
_OF_ITS_CLASSIFIER = ("id2label", "label2id", "num_labels", "classifier_dropout")


def carried_pooling(config: dict[str, Any]) -> str | None:
    """What a model's classifier is made for, if a matcher's may be the same: a WoBERT's of the mean or of the first
    token. None for any other: BERT's own has a pooler before it."""
    pooling = config.get("classifier_pooling") if config.get("model_type") == "wobert" else None
    return pooling if pooling in ("mean", "cls") else None


def _from_backbone(model_type: str, config: dict[str, Any]) -> dict[str, Any]:
    if model_type not in _POSITIONS:
        raise ValueError(f"a matcher starts from a model of type {', '.join(_POSITIONS)}, got one of {model_type!r}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("a matcher of BERT has absolute positions, got a BERT with relative ones")
    if config.get("rotary_value") or config.get("embedding_size") not in (None, config.get("hidden_size")):
        raise ValueError(
            "a matcher starts from a RoFormer whose embeddings are of hidden_size and whose values are not rotated, "
            f"got embedding_size {config.get('embedding_size')} and rotary_value {config.get('rotary_value')}"
        )
    pooling = carried_pooling(config)
    left = _OF_ITS_OWN_MODEL if pooling else (*_OF_ITS_OWN_MODEL, *_OF_ITS_CLASSIFIER)
    kept = {key: value for key, value in config.items() if key not in left}
    kept["position_embedding_type"] = _POSITIONS[model_type]
    if pooling:
        kept["pooling"] = pooling
    return kept


__all__ = ["ClnMatcherConfig"]
