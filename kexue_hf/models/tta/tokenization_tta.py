"""T-TA's tokenizer: BERT's word pieces between [SOS] and [EOS].

Differences from `BertTokenizer`:

* The tokens around a sentence: `[SOS] sentence [EOS]`; a pair is `[SOS] first [EOS] second [EOS]`.
* No `token_type_ids` unless requested, because the model has no token types.
* Words of up to 200 characters are split into pieces, as in Google's code, on which the original T-TA builds
  (`BertTokenizer`: 100).

The ids equal the original's, with three exceptions: special tokens in the text are recognised, as everywhere in
transformers (the original splits them); and as in `BertTokenizer`, private use characters are dropped and a capital
sigma at the end of a word is lower-cased as elsewhere.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers.tokenization_utils_base import AddedToken
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from .auto_map_tta import TOKENIZER_AUTO_MAP
from .vocabulary_tta import load_vocabulary, vocabulary_fingerprint

VOCAB_FILES_NAMES = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}

_LONGEST_WORD = 200


class TtaTokenizer(TokenizersBackend):
    r"""T-TA tokenizer on the Rust tokenizers, with offsets, `word_ids()` and overflowing rows.

    Args:
        vocab (`str`, `dict` or `list`, *optional*): path of a `vocab.txt`, one token per line, line number from 0 =
            id;
            or the vocabulary itself: token -> id, or the tokens in the order of their ids.
        do_lower_case (`bool`, *optional*, defaults to `True`): lower-case, and drop accents unless `strip_accents`
            says otherwise.
        tokenize_chinese_chars (`bool`, *optional*, defaults to `True`): treat every Chinese character as a word.
        strip_accents (`bool`, *optional*): drop accents; defaults to the value of `do_lower_case`.
        bos_token (`str`, *optional*, defaults to `"[SOS]"`): the token before a sentence.
        eos_token (`str`, *optional*, defaults to `"[EOS]"`): the token after each sentence.
        vocab_file (`str`, *optional*): another name of `vocab`, for a path.

    The vocabulary must contain `bos_token`, `eos_token`, `pad_token` and `unk_token`; for a T-TA with the vocabulary
    of a BERT, use that BERT's tokenizer. `mask_token`, `cls_token` and `sep_token`, which the official vocabulary has
    but no sentence gets, are None if the vocabulary lacks them.

    Raises:
        ValueError: the vocabulary is missing or unreadable, or lacks a required token.
    """

    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (transformers' own form)
    model = WordPiece
    _auto_class = "AutoTokenizer"

    def __init__(
        self,
        vocab: str | os.PathLike[str] | Mapping[str, int] | Sequence[str] | None = None,
        do_lower_case: bool = True,
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        bos_token: str | AddedToken = "[SOS]",
        eos_token: str | AddedToken = "[EOS]",
        pad_token: str | AddedToken = "[PAD]",
        unk_token: str | AddedToken = "[UNK]",
        mask_token: str | AddedToken | None = "[MASK]",
        cls_token: str | AddedToken | None = "[CLS]",
        sep_token: str | AddedToken | None = "[SEP]",
        vocab_file: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.do_lower_case = do_lower_case
        self.tokenize_chinese_chars = tokenize_chinese_chars
        self.strip_accents = strip_accents
        trained = kwargs.pop("tokenizer_object", None)
        saved = kwargs.pop("tokenizer_file", None)
        if trained is None:
            tokens = _vocabulary(vocab_file if vocab is None else vocab, saved)
        else:
            tokens = trained.get_vocab(with_added_tokens=False)
        known = set(tokens) | {str(token) for token in kwargs.get("added_tokens_decoder", {}).values()}
        missing = [str(token) for token in (pad_token, eos_token, unk_token, bos_token) if str(token) not in known]
        if missing:
            raise ValueError(
                f"the vocabulary of {len(tokens):,} tokens lacks {', '.join(missing)}: is it a T-TA's? For a BERT's "
                "vocabulary use the BERT's tokenizer, or name the tokens that it has (bos_token='[CLS]', ...)"
            )
        self._tokenizer = Tokenizer(
            WordPiece(tokens, unk_token=str(unk_token), max_input_chars_per_word=_LONGEST_WORD)
        )
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            lowercase=do_lower_case,
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokenizer.decoder = decoders.WordPiece(prefix="##")
        # Replaced below: the saved one may use other special tokens than the arguments name.
        kwargs.pop("post_processor", None)
        # save_pretrained writes a subclass's entry itself if it can copy the file of the class.
        auto_map = {name: to for name, to in (kwargs.pop("auto_map", None) or {}).items() if name != "AutoTokenizer"}
        if type(self).__name__ == "TtaTokenizer":
            auto_map.update(TOKENIZER_AUTO_MAP)
        if auto_map:
            kwargs["auto_map"] = auto_map
        super().__init__(
            do_lower_case=do_lower_case,
            tokenize_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            unk_token=unk_token,
            mask_token=mask_token if str(mask_token) in known else None,
            cls_token=cls_token if str(cls_token) in known else None,
            sep_token=sep_token if str(sep_token) in known else None,
            **kwargs,
        )

    # The Rust tokenizer puts the tokens around a sentence, so it must follow changes of these attributes.
    def __setattr__(self, key: str, value: Any) -> None:
        around = key.removesuffix("_id") in ("bos_token", "eos_token")
        if around and value is None:
            raise ValueError(f"T-TA puts bos_token and eos_token around every sentence, so {key} cannot be None")
        super().__setattr__(key, value)
        if around:
            self.update_post_processor()

    def add_tokens(self, *arguments: Any, **options: Any) -> int:
        """Add tokens; `bos_token` and `eos_token` may get their ids this way."""
        added: int = super().add_tokens(*arguments, **options)
        self.update_post_processor()
        return added

    def update_post_processor(self) -> None:
        """Put the current `bos_token` and `eos_token` around sentences."""
        begin, end = self.bos_token, self.eos_token
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin}:0 $A:0 {end}:0",
            pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
            special_tokens=[(begin, self.bos_token_id), (end, self.eos_token_id)],
        )

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of `__init__` from a folder's files; the same if this code came from the folder."""
        found: dict[str, Any] = super().convert_to_native_format(**kwargs)
        return found

    @property
    def vocab_fingerprint(self) -> str:
        """Fingerprint of the vocabulary without added tokens, as recorded in a model's config."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        return vocabulary_fingerprint(token for token in tokens if token != _placeholder(vocabulary[token]))


def _placeholder(index: int) -> str:
    return f"[no token {index}]"


def _vocabulary(given: Any, saved: str | None) -> dict[str, int]:
    """Return the vocabulary of the constructor's arguments: token -> id, without gaps in the ids.

    Of a duplicate token the last id counts. The other ids get placeholders that no text leads to: the Rust tokenizer
    uses the number of tokens as the id of an added token, which must be free.
    """
    if given is None and saved is not None:
        try:
            with open(saved, encoding="utf-8") as file:
                given = json.load(file)["model"]["vocab"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read the vocabulary in {saved}: {error}") from error
    if given is None:
        raise ValueError(
            "TtaTokenizer needs a vocabulary: give vocab=, the path of a vocab.txt or the tokens themselves; the "
            "folder or the call has none"
        )
    if isinstance(given, str | os.PathLike):
        given = load_vocabulary(given)
    elif not isinstance(given, Mapping):
        given = {token: index for index, token in enumerate(given)}
    vocabulary = dict(given)
    ids = set(vocabulary.values())
    if len(ids) < len(vocabulary) or not all(type(index) is int and index >= 0 for index in ids):
        raise ValueError("vocab= as a dict must map every token to a distinct id, an integer from 0 on")
    for token in vocabulary:
        if not isinstance(token, str):
            raise ValueError(f"a token must be a string, got {token!r} of type {type(token).__name__}")
    for index in range(max(ids, default=-1) + 1):
        if index not in ids:
            vocabulary[_placeholder(index)] = index
    return vocabulary


__all__ = ["TtaTokenizer"]
