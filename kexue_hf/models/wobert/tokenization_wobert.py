"""WoBERT's tokenizer: jieba's words, and word pieces for words that the vocabulary lacks.

Differences from a BERT tokenizer (https://kexue.fm/archives/7758): the text is normalised and cut into words by jieba
(HMM off), and a word in the vocabulary is one token. The ids equal those of bert4keras'
`Tokenizer(vocabulary, do_lower_case=True, pre_tokenize=lambda s: jieba.lcut(s, HMM=False))`, except that special
tokens in the text, which the original splits, are recognised as everywhere in transformers.

Differences from transformers' `PythonBackend`: the tokens are aligned with the text. `return_offsets_mapping`,
`word_ids()`, `char_to_token()` and `return_overflowing_tokens` with `stride` behave as in the Rust tokenizers, so
`is_fast` is true. A tokenizer.json cannot hold a Python pre-tokenizer, so a folder has `vocab.txt` and
`tokenizer_config.json` only.

Longer than 500 lines: the interface of a transformers tokenizer is one class. The algorithms are in sibling modules.
"""

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from transformers import BatchEncoding
from transformers.tokenization_python import PythonBackend
from transformers.tokenization_utils_base import AddedToken, TruncationStrategy
from transformers.utils import PaddingStrategy

from .analysis_wobert import Analyzer, SpecialToken
from .auto_map_wobert import TOKENIZER_AUTO_MAP
from .batch_wobert import Batch, read_inputs
from .decoding_wobert import join_tokens
from .normalization_wobert import Normalizer
from .truncation_wobert import truncated_windows
from .vocabulary_match_wobert import vocabulary_mismatch
from .vocabulary_wobert import (
    VocabularyMismatchWarning,
    check_special_tokens,
    given_vocabulary,
    is_one_field,
    vocabulary_fingerprint,
    word_problem,
)

VOCAB_FILES_NAMES = {"vocab_file": "vocab.txt"}

# Attributes that `is_fast` suggests, and why they are missing.
_ONLY_RUST = {
    "backend_tokenizer": "it cuts words in Python, without a Rust tokenizer, although is_fast is true: call it, or "
    "use its get_vocab, add_tokens and add_words",
    "train_new_from_iterator": "its vocabulary is counted, not trained: make one with count_corpus and "
    "build_vocabulary of kexue_hf.vocabulary, and pass it as vocab=",
}


class _Unhashed:
    """One attribute outside `__dict__`, which `datasets` hashes without calling __getstate__."""

    __slots__ = ("_made",)


class WoBertTokenizer(_Unhashed, PythonBackend):
    r"""Word-level Chinese tokenizer.

    Args:
        vocab_file (`str`, *optional*): path of a `vocab.txt`, one token per line, line number from 0 = id.
        vocab (`dict` or `list`, *optional*): the vocabulary itself instead of the file: token -> id, or the tokens in
            the order of their ids.
        do_lower_case (`bool`, *optional*, defaults to `True`): lower-case, NFD, drop combining marks.
        user_words (`list` of `str`, *optional*): words that the segmenter must cut as one unit. Saved with the
            tokenizer. A word that the vocabulary lacks still becomes word pieces; `kexue_hf.add_words` gives it an id
            and the model a row for it. A word that contains a special or added token has no effect, because these are
            found first.
        unk_token (`str` or `None`, *optional*, defaults to `"[UNK]"`): the token for text that cannot be spelt.
            Without it nothing can be encoded. It, `pad_token`, `cls_token`, `sep_token` and `mask_token` must be in
            the vocabulary; pass another name, or None.

    Differences from other tokenizers: `word_ids()` counts the segmenter's words (those that leave a token), or the
    given words with `is_split_into_words`; offsets count characters of the raw text; `tokenize()` returns `[UNK]` for
    a word that cannot be spelt; `truncation="longest_first"` on a pair drops tokens from the longer sequence, or from
    the first if they are equally long, like the original.

    Raises:
        ValueError: neither or both vocabularies are given, the vocabulary is unreadable or lacks a special token, or a
            user word is invalid.
        ImportError: neither rjieba nor jieba is installed (raised when the first text is cut).
    """

    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012 (transformers' own form)
    _auto_class = "AutoTokenizer"
    # Pipelines read this from a Rust tokenizer to distinguish word pieces from words.
    _tokenizer = SimpleNamespace(model=SimpleNamespace(continuing_subword_prefix="##"))
    # The tokenizer's state and the analyzer made for it, created on first use.
    _made: tuple[Any, Analyzer] | None

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None = None,
        vocab: Mapping[str, int] | Sequence[str] | None = None,
        do_lower_case: bool = True,
        user_words: Iterable[str] = (),
        unk_token: str | AddedToken | None = "[UNK]",
        sep_token: str | AddedToken | None = "[SEP]",
        pad_token: str | AddedToken | None = "[PAD]",
        cls_token: str | AddedToken | None = "[CLS]",
        mask_token: str | AddedToken | None = "[MASK]",
        **kwargs: Any,
    ) -> None:
        self._made = None
        self.vocab = given_vocabulary(vocab_file, vocab)
        self.ids_to_tokens = {index: token for token, index in self.vocab.items()}
        self._vocab_size = max(self.ids_to_tokens, default=-1) + 1
        special = {
            "unk_token": unk_token,
            "pad_token": pad_token,
            "cls_token": cls_token,
            "sep_token": sep_token,
            "mask_token": mask_token,
        }
        check_special_tokens(self.vocab, special, kwargs.get("added_tokens_decoder", {}).values())
        self.do_lower_case = do_lower_case
        words = _as_words(user_words)
        self._user_words: tuple[str, ...] = ()
        # save_pretrained writes a subclass's entry itself if it can copy the file of the class.
        auto_map = {name: to for name, to in (kwargs.pop("auto_map", None) or {}).items() if name != "AutoTokenizer"}
        if type(self).__name__ == "WoBertTokenizer":
            auto_map.update(TOKENIZER_AUTO_MAP)
        if auto_map:
            kwargs["auto_map"] = auto_map
        # Defaults here as well as in the files, so that a subclass or a caller can choose others.
        kwargs.setdefault("special_tokens_pattern", "cls_sep")
        kwargs.setdefault("token_type_ids_pattern", "bert_style")
        super().__init__(
            do_lower_case=do_lower_case,
            user_words=words,
            **special,
            **kwargs,
        )
        # Not add_words, which refuses words that contain a token: in a saved tokenizer the token may be newer.
        self._check_user_words(words)
        self._user_words = tuple(dict.fromkeys(words))

    def __getattr__(self, key: str) -> Any:
        if key in _ONLY_RUST:
            raise AttributeError(f"{type(self).__name__} has no {key}: {_ONLY_RUST[key]}")
        return super().__getattr__(key)

    # --- vocabulary

    @property
    def is_fast(self) -> bool:
        """True, because offsets, words and overflowing rows are available, which is what callers check this for."""
        return True

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary without added tokens: the highest id + 1."""
        return self._vocab_size

    @property
    def vocab_fingerprint(self) -> str:
        """Fingerprint of the vocabulary without added tokens, as recorded in a model's config."""
        tokens = (self.ids_to_tokens[index] for index in sorted(self.ids_to_tokens))
        return vocabulary_fingerprint(token for token in tokens if not self._is_only_added(token))

    def _is_only_added(self, token: str) -> bool:
        """Return whether tokenizer_config.json holds a token as an added one, and `vocab.txt` cannot hold it."""
        return token in self._added_tokens_encoder and not is_one_field(token)

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id with added tokens; ids of duplicate lines, which no text leads to, get placeholders."""
        vocab = dict(self.vocab)
        if len(vocab) < self.vocab_size:
            vocab.update((f"[no token {i}]", i) for i in range(self.vocab_size) if i not in self.ids_to_tokens)
        vocab.update(self._added_tokens_encoder)
        return vocab

    def _convert_token_to_id(self, token: str) -> int:
        index = self.vocab.get(token)
        return self._unk_id() if index is None else index

    def _convert_id_to_token(self, index: int) -> str:
        token = self.ids_to_tokens.get(index)
        return self.unk_token or "" if token is None else token

    def _unk_id(self) -> int:
        """Return the id of the token for text that cannot be spelt; it may be an added token."""
        token = self.unk_token
        index = None if token is None else self._added_tokens_encoder.get(token, self.vocab.get(token))
        if index is None:
            raise ValueError(
                f"unk_token, the token for text that cannot be spelt, is {token!r}"
                f"{'' if token is None else ', neither in the vocabulary nor an added token'}; without it nothing can "
                f"be encoded: set it to an existing token, such as '[UNK]', or "
                f"add_special_tokens({{'unk_token': ...}})"
            )
        return index

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write `vocab.txt` to `save_directory` and return its path.

        Raises:
            ValueError: a token (from a `vocab=` argument) contains a line end or white space, which the file cannot
                hold.
        """
        name = (f"{filename_prefix}-" if filename_prefix else "") + VOCAB_FILES_NAMES["vocab_file"]
        path = os.path.join(save_directory, name)
        last = self.ids_to_tokens[self.vocab_size - 1]
        lines = []
        for index in range(self.vocab_size):
            # An id without a token gets a duplicate of a later line: reading lets the last one win.
            token = self.ids_to_tokens.get(index, last)
            if self._is_only_added(token):
                token = last
            if not is_one_field(token):
                what = "a line end" if token.rstrip("\r\n") != token or "\n" in token else "white space"
                raise ValueError(f"token {index}, {token!r}, has {what} in it: a vocab.txt has one token per line")
            lines.append(token + "\n")
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
        return (path,)

    @classmethod
    def _from_pretrained(cls, resolved_vocab_files: dict[str, Any], *args: Any, **kwargs: Any) -> "WoBertTokenizer":
        vocab_file = resolved_vocab_files.get("vocab_file")
        tokenizer = super()._from_pretrained(resolved_vocab_files, *args, **kwargs)
        if vocab_file is not None:
            tokenizer._warn_of_other_config(os.path.join(os.path.dirname(vocab_file), "config.json"))
        return tokenizer

    def _warn_of_other_config(self, path: str) -> None:
        """Warn if the model configuration in the same folder was made for another vocabulary.

        Added tokens do not count: tokens added by the loading call are waiting for the model to be resized.
        """
        try:
            with open(path, encoding="utf-8") as file:
                config = json.load(file)
            size, fingerprint = config.get("vocab_size"), config.get("vocab_fingerprint")
        except (OSError, ValueError, AttributeError):
            return  # No config, or one that this tokenizer cannot judge.
        rows = size if isinstance(size, int) else None
        # Without a fingerprint only the size tells. Added tokens may outgrow an embedding that is yet to be resized.
        own = [self.vocab_fingerprint] if fingerprint else []
        problem = vocabulary_mismatch(self.vocab_size, own, None if fingerprint else rows, fingerprint)
        if problem is None:
            return
        warnings.warn(
            f"this vocabulary does not belong to the model beside it, whose predictions will be meaningless: "
            f"{problem} ({path}). Use the vocab.txt that the model was trained with",
            VocabularyMismatchWarning,
            stacklevel=2,
        )

    # --- the segmenter's words

    @property
    def user_words(self) -> list[str]:
        """The user's words in the order in which they were added."""
        return list(self._user_words)

    def add_words(self, words: Iterable[str]) -> int:
        """Make the segmenter cut these words as one unit, and return how many are new.

        They are normalised like texts, so "ABC" and "abc" are the same word. In a sentence a word competes with
        overlapping words, as in jieba. The vocabulary does not change: a word that it lacks becomes word pieces.

        Raises:
            ValueError: a word is not a string, is empty, or contains white space or a special token.
        """
        words = _as_words(words)
        self._check_user_words(words, (*self.all_special_tokens, *self._added_tokens_encoder))
        # Stored as given, since do_lower_case may change; compared in the form that the segmenter sees.
        merged = tuple(dict.fromkeys((*self._user_words, *words)))
        normalize = Normalizer(self.do_lower_case)
        new = len(set(map(normalize, merged))) - len(set(map(normalize, self._user_words)))
        self._user_words = merged
        return new

    def grow_vocabulary(self, words: Iterable[str]) -> dict[str, int]:
        """Give each of these words an id after all others, and make the segmenter cut it as one unit.

        They become ordinary tokens, not `added_tokens`, which are searched for in every text before it is cut and
        would match inside longer words. A model needs new rows for them: `kexue_hf.add_words` does both. Other threads
        may encode meanwhile, with either the old or the new tokens.

        Returns:
            The words in their normal form (case does not matter, see `add_words`) with their ids.

        Raises:
            ValueError: words are already in the vocabulary, are given twice, begin with `##`, or are refused by
                `add_words`. The error names them; nothing has changed.
        """
        words, tokens = _as_words(words), (*self.all_special_tokens, *self._added_tokens_encoder)
        normalize = Normalizer(self.do_lower_case)
        added = {index: token for token, index in self._added_tokens_encoder.items() if index >= self.vocab_size}
        first = max(self.vocab_size - 1, *added) + 1 if added else self.vocab_size
        new: dict[str, int] = {}
        problems = []
        for word in words:
            try:
                self._check_user_words([word], tokens)
                normal = normalize(word)
                if normal in self.vocab:
                    raise ValueError(f"{word!r} is in the vocabulary already (id {self.vocab[normal]})")
                if normal in new:
                    raise ValueError(f"{word!r} is given twice")
                if normal.startswith("##"):
                    raise ValueError(f"{word!r} begins with ##, which marks a word piece")
            except ValueError as error:
                problems.append(str(error))
            else:
                new[normal] = first + len(new)
        if problems:
            more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise ValueError(f"words cannot be added to the vocabulary: {'; '.join(problems[:10])}{more}")
        # Added tokens in between become vocabulary lines, like special tokens. New dictionaries, set together: copies
        # of this tokenizer and the analyzer share the old ones, and other threads may be reading.
        vocab = {**self.vocab, **{token: index for index, token in sorted(added.items())}, **new}
        self.__dict__.update(
            ids_to_tokens={index: token for token, index in vocab.items()},
            vocab=vocab,
            _vocab_size=first + len(new),
            _user_words=tuple(dict.fromkeys((*self._user_words, *words))),
        )
        self._update_total_vocab_size()
        return new

    def _check_user_words(self, words: Iterable[Any], tokens: Sequence[str] = ()) -> None:
        normalize = Normalizer(self.do_lower_case)
        for word in words:
            if not isinstance(word, str):
                raise ValueError(f"a user word must be a string, got {word!r} of type {type(word).__name__}")
            if problem := word_problem(word, normalize(word), tokens):
                raise ValueError(problem)

    def _add_tokens(self, new_tokens: list[str] | list[AddedToken], special_tokens: bool = False) -> int:
        """Add tokens under their given names; the analyzer normalises those with `normalized=True`."""
        known = {*self.all_special_tokens, *self._added_tokens_encoder}
        flags: dict[str, dict[str, bool]] = {}
        tokens = []
        for token in new_tokens or ():
            if isinstance(token, str) and token not in known:
                token = AddedToken(token, special=special_tokens, normalized=not special_tokens)
            if isinstance(token, AddedToken) and token.normalized and not (token.special or special_tokens):
                state = {"single_word": token.single_word, "lstrip": token.lstrip, "rstrip": token.rstrip}
                flags[token.content] = state
                # transformers would lower-case the name of a normalised token and then not find it.
                token = AddedToken(token.content, normalized=False, special=False, **state)
            tokens.append(token)
        added: int = super()._add_tokens(tokens, special_tokens)
        for content, state in flags.items():
            if content in self._added_tokens_encoder:
                token = AddedToken(content, normalized=True, special=False, **state)
                self._added_tokens_decoder[self._added_tokens_encoder[content]] = token
        self._made = None
        return added

    def _update_trie(self, unique_no_split_tokens: list[str] | None = None) -> None:
        """Reset the analyzer, which finds added tokens itself, instead of building a trie."""
        self._made = None

    def _update_total_vocab_size(self) -> None:
        """Reset the analyzer: a direct assignment to `added_tokens_decoder` calls only this method."""
        self._made = None
        super()._update_total_vocab_size()

    @property
    def _analyzer(self) -> Analyzer:
        """The analyzer for the current state of this tokenizer."""
        # Read together: `grow_vocabulary` in another thread changes them together.
        user_words, vocab, size = self._user_words, self.vocab, self._vocab_size
        special = self.all_special_tokens
        # Their number, since a shallow copy shares added tokens and may add one without telling this tokenizer.
        added = len(self._added_tokens_encoder)
        state = (self.do_lower_case, user_words, special, added, self.unk_token, size)
        made = self._made
        # A fresh copy lacks the slot, and transformers' __getattr__ then returns its descriptor.
        if isinstance(made, tuple) and made[0] == state:
            return made[1]
        unk_id = self._unk_id()
        tokens = []
        for token, index in {
            **{t: self.convert_tokens_to_ids(t) for t in special},
            **self._added_tokens_encoder,
        }.items():
            flags = self._added_tokens_decoder.get(index, AddedToken(token, normalized=False))
            tokens.append(
                SpecialToken(
                    index,
                    token,
                    flags.single_word,
                    flags.lstrip,
                    flags.rstrip,
                    flags.normalized and self.do_lower_case,
                )
            )
        analyzer = Analyzer(vocab, unk_id, self.do_lower_case, user_words, tokens)
        self._made = (state, analyzer)
        return analyzer

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._made = None

    # --- encoding

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """Return the tokens of a text as strings; `[UNK]` for a word that cannot be spelt."""
        special = not kwargs.get("split_special_tokens", self.split_special_tokens)
        texts = [_as_text(text)] if pair is None else [_as_text(text), _as_text(pair)]
        ids, *pairs = self._analyzer.batch(texts, special)[0]
        if add_special_tokens:
            return self.convert_ids_to_tokens(self.build_inputs_with_special_tokens(ids, *pairs))
        return self.convert_ids_to_tokens(sum(pairs, ids))

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return self.tokenize(text, split_special_tokens=True)

    def _encode_plus(
        self,
        text: Any,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
        truncation_strategy: TruncationStrategy = TruncationStrategy.DO_NOT_TRUNCATE,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: Any = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        split_special_tokens: bool | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Encode one text or many, the whole batch at once."""
        firsts, seconds, batched = read_inputs(text, text_pair, is_split_into_words)
        recognise = not (self.split_special_tokens if split_special_tokens is None else split_special_tokens)
        cls_sep = (self.cls_token_id, self.sep_token_id) if add_special_tokens else None
        if cls_sep is not None and None in cls_sep:
            raise ValueError("this tokenizer has no cls_token or no sep_token: set them, or add_special_tokens=False")
        batch = Batch(self._analyzer, firsts, seconds, recognise, return_offsets_mapping, cls_sep)
        max_kept = None if truncation_strategy == TruncationStrategy.DO_NOT_TRUNCATE else max_length
        if max_kept is not None:
            batch.truncate(
                max_kept, truncation_strategy.value, self.truncation_side, stride, return_overflowing_tokens
            )

        rows = batch.input_ids()
        self._eventual_warn_about_too_long_sequence(max(rows, key=len, default=[]), max_kept, verbose)
        target = _padded_length(rows, padding_strategy, max_length, pad_to_multiple_of)
        side = padding_side or self.padding_side
        if side not in ("left", "right"):
            raise ValueError(f"padding_side must be 'left' or 'right', got {side!r}")

        def pad(values: list[list[Any]], filling: Any) -> list[list[Any]]:
            if target is None:
                return values
            if side == "right":
                return [row + [filling] * (target - len(row)) for row in values]
            return [[filling] * (target - len(row)) + row for row in values]

        pad_id = self.pad_token_id
        data: dict[str, Any] = {"input_ids": pad(rows, pad_id)}
        names = self.model_input_names
        if "token_type_ids" in names if return_token_type_ids is None else return_token_type_ids:
            data["token_type_ids"] = pad(batch.type_ids(rows), self.pad_token_type_id)
        if "attention_mask" in names if return_attention_mask is None else return_attention_mask:
            data["attention_mask"] = pad([[1] * len(row) for row in rows], 0)
        if return_special_tokens_mask:
            data["special_tokens_mask"] = pad(batch.special_mask(), 1)
        if return_offsets_mapping:
            data["offset_mapping"] = pad(batch.offsets(), (0, 0))
        if return_length:
            data["length"] = [len(row) for row in data["input_ids"]]
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = batch.samples()
        encodings = batch.encodings(rows, target, side, (pad_id, self.pad_token_type_id), self.convert_ids_to_tokens)
        # A single text is one row; one that may overflow is a batch of rows, as with the Rust tokenizers.
        if not batched and not return_overflowing_tokens and return_tensors is None:
            data = {key: value[0] for key, value in data.items()}
        return BatchEncoding(data, encodings, tensor_type=return_tensors, n_sequences=1 if seconds is None else 2)

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str | TruncationStrategy = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Truncate ids (and those of a pair) as `__call__` does, for `prepare_for_model`; also return the overflow."""
        if num_tokens_to_remove <= 0:
            return ids, pair_ids, []
        lengths = [len(ids)] if pair_ids is None else [len(ids), len(pair_ids)]
        strategy = TruncationStrategy(truncation_strategy).value
        (windows,) = truncated_windows(
            lengths, max(0, sum(lengths) - num_tokens_to_remove), strategy, self.truncation_side, 0, False
        )
        cut = [sequence[slice(*window)] for sequence, window in zip((ids, pair_ids or []), windows, strict=False)]
        overflowing: list[int] = []
        if pair_ids is None or strategy != "longest_first":
            whole, left = (ids, cut[0]) if strategy != "only_second" else (pair_ids or [], cut[-1])
            window = min(len(whole), len(whole) - len(left) + stride)
            overflowing = whole[:window] if self.truncation_side == "left" else whole[len(whole) - window :]
        return cut[0], cut[1] if pair_ids is not None else None, overflowing

    # --- decoding

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens to readable text: no spaces between Chinese words, `##` pieces joined, spaces in English.

        A special token gets spaces around it, as in BertTokenizer: `[CLS] 今天 [MASK] 好 [SEP]`. An added token that
        is not special is treated like a word.
        """
        return join_tokens(tokens, frozenset(self.all_special_tokens), frozenset(self._added_tokens_encoder))


def _as_words(words: Any) -> list[Any]:
    if isinstance(words, str):
        raise ValueError(f"user words must be a list of strings, got the string {words!r}: put it in brackets")
    return list(words or ())


def _as_text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"a text must be a string, got {type(text).__name__}")
    return text


def _padded_length(
    rows: list[list[int]], strategy: PaddingStrategy, max_length: int | None, multiple: int | None
) -> int | None:
    """Return the target length of every row, or None for no padding."""
    if strategy == PaddingStrategy.DO_NOT_PAD or not rows:
        return None
    longest = max(map(len, rows))
    target = max_length if strategy == PaddingStrategy.MAX_LENGTH and max_length is not None else longest
    if multiple:
        target += -target % multiple
    return target


__all__ = ["WoBertTokenizer"]
