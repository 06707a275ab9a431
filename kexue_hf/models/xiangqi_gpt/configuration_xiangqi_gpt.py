"""Configuration of Xiangqi GPT: BERT's, with a causal mask and the vocabulary of games."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .auto_map_xiangqi_gpt import AUTO_MAP


@strict
class XiangqiGptConfig(BertConfig):
    r"""Configuration of the Xiangqi GPT models; all of [`BertConfig`]'s fields, and:

    Args:
        vocab_size (`int`, *optional*, defaults to 20):
            20 for the characters of ICCS moves, 91 for squares: see [`XiangqiTokenizer`].
        bos_token_id, eos_token_id, pad_token_id (`int`, *optional*, defaults to 0):
            [PAD] stands before the first move and after the last, as in the original.
        id2label (`dict[int, str]`, *optional*):
            The classes of `XiangqiGptForSequenceClassification`. By default the results of a game: 0 is `"1-0"` (Red
            wins), 1 is `"1/2-1/2"`, 2 is `"0-1"`.
        board_input (`bool`, *optional*, defaults to `False`):
            Add to every token's embedding a vector that describes the board: the pieces, what is attacked and guarded,
            and where the piece of a begun move can go. The model works the boards out from the moves. The original has
            no such input.
        board_hidden_size (`int`, *optional*, defaults to 64):
            Width of the features' sum before a layer brings it to `hidden_size`.
        ids_per_square (`int`, *optional*):
            1 if an id is a square, 2 if it is a file or a rank. By default as in the vocabulary of this size.
        value_head (`bool`, *optional*, defaults to `False`):
            Give `XiangqiGptForCausalLM` the classifier of `XiangqiGptForSequenceClassification` too, at every token.
        value_loss_weight (`float`, *optional*, defaults to 0.1):
            Weight of the classifier's loss in the sum of both.
        vocab_fingerprint (`str`, *optional*):
            Hash of the vocabulary that the weights belong to. A tokenizer with a different one causes a warning.

    Raises:
        ValueError: `is_decoder` is off, `add_cross_attention` is on, `ids_per_square` is neither 1 nor 2, or
            `value_loss_weight` is negative.
    """

    model_type = "xiangqi_gpt"
    _auto_class = "AutoConfig"

    vocab_size: int = 20
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    # With it, transformers' BERT has a causal mask and a cache.
    is_decoder: bool = True
    board_input: bool = False
    board_hidden_size: int = 64
    ids_per_square: int | None = None
    value_head: bool = False
    value_loss_weight: float = 0.1
    vocab_fingerprint: str | None = None
    tokenizer_class: str | None = "XiangqiTokenizer"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.ids_per_square is None:
            # Stored, since resizing the vocabulary changes its size but not what the ids are.
            self.ids_per_square = 1 if self.vocab_size > 20 else 2
        self.check()
        own: Any = self
        if own.id2label is None and kwargs.get("num_labels") is None:
            own.id2label = dict(RESULTS)
            own.label2id = own.label2id or {label: index for index, label in RESULTS.items()}
        # As in WoBERT: with all classes in the file, every Auto class loads the folder without this package.
        kwargs["auto_map"] = {**AUTO_MAP, **(kwargs.get("auto_map") or {})}
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise the errors named above. The models call it again, since `from_pretrained` sets fields afterwards."""
        if not self.is_decoder:
            raise ValueError("Xiangqi GPT reads games from left to right: leave is_decoder=True")
        if self.add_cross_attention:
            raise ValueError("Xiangqi GPT has no encoder to attend to: leave add_cross_attention=False")
        if self.ids_per_square not in (1, 2):
            raise ValueError(f"ids_per_square must be 1 or 2, got {self.ids_per_square}")
        if not self.value_loss_weight >= 0:
            raise ValueError(f"value_loss_weight must be 0 or more, got {self.value_loss_weight}")


RESULTS = {0: "1-0", 1: "1/2-1/2", 2: "0-1"}

__all__ = ["RESULTS", "XiangqiGptConfig"]
