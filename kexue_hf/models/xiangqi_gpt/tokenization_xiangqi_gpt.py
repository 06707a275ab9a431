"""XiangqiTokenizer: games of xiangqi as ids.

tokenizer = XiangqiTokenizer()                  # 4 ids a move; vocab="squares": 2 ids a move
tokenizer("h2e2 h9g7")["input_ids"]             # [0, 18, 3, 15, 3, 18, 10, 17, 8]
tokenizer.decode([0, 18, 3, 15, 3], skip_special_tokens=True)  # "h2e2"
"""

import os
import re
from typing import Any

from transformers.tokenization_python import PythonBackend

from .auto_map_xiangqi_gpt import TOKENIZER_AUTO_MAP
from .vocabulary_xiangqi_gpt import VOCABULARIES, vocabulary_fingerprint

_BETWEEN = re.compile(r"[\s-]*")
_MOVE = re.compile(r"([a-i][0-9])[\s-]*([a-i][0-9])", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"\S*")
_FILE_NAME = "vocab.txt"


class XiangqiTokenizer(PythonBackend):
    r"""Tokenizer of games, which are strings of ICCS moves: "h2e2h9g7", "h2e2 h9g7", "H2-E2 H9-G7".

    [PAD] (id 0) stands before the first move, pads on the left, so that a batch can be continued by `generate`, and
    is what a model writes after the last move. The moves are not checked against the rules.

    Args:
        vocab (`str`, *optional*, defaults to `"characters"`): `"characters"`, the 20 of the original, 4 ids a move; or
            `"squares"`, 2 ids a move. It is saved with the tokenizer.
        vocab_file (`str`, *optional*): a `vocab.txt` that holds one of the two vocabularies, in place of `vocab`.

    Raises:
        ValueError: an unknown vocabulary, or `vocab_file` holds another one.
    """

    vocab_files_names = {"vocab_file": _FILE_NAME}  # noqa: RUF012 (transformers' own form)
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (transformers' own form)
    padding_side = "left"
    _auto_class = "AutoTokenizer"

    def __init__(
        self, vocab: str | None = None, vocab_file: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        self.vocab_name = _vocabulary(vocab, vocab_file)
        self._tokens = VOCABULARIES[self.vocab_name]
        self._ids = {token: index for index, token in enumerate(self._tokens)}
        # save_pretrained writes a subclass's entry itself if it can copy the file of the class.
        auto_map = {key: to for key, to in (kwargs.pop("auto_map", None) or {}).items() if key != "AutoTokenizer"}
        if type(self).__name__ == "XiangqiTokenizer":
            auto_map.update(TOKENIZER_AUTO_MAP)
        if auto_map:
            kwargs["auto_map"] = auto_map
        for role in ("pad_token", "bos_token", "eos_token"):
            kwargs.setdefault(role, self._tokens[0])
        kwargs.setdefault("special_tokens_pattern", "bos")
        super().__init__(vocab=self.vocab_name, **kwargs)

    @property
    def ids_per_move(self) -> int:
        """Number of ids of a move: 4 for characters, 2 for squares."""
        return 4 if self.vocab_name == "characters" else 2

    def move_ids(self, move: str) -> list[int]:
        """Return the ids of one ICCS move.

        Raises:
            ValueError: the text is no ICCS move.
        """
        tokens = self._tokenize(move)
        if len(tokens) != self.ids_per_move:
            raise ValueError(f"expected one ICCS move such as h2e2, got {move!r:.60}")
        return [self._ids[token] for token in tokens]

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    @property
    def vocab_fingerprint(self) -> str:
        """Fingerprint of the vocabulary without added tokens, as recorded in a model's config."""
        return vocabulary_fingerprint(self._tokens)

    def get_vocab(self) -> dict[str, int]:
        return {**self._ids, **self._added_tokens_encoder}

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        """Return the tokens of a game.

        Raises:
            ValueError: a move is wrong; the message names the half-move, from 1.
        """
        squares: list[str] = []
        start = _BETWEEN.match(text).end()  # type: ignore[union-attr]  # it also matches nothing
        while start < len(text):
            move = _MOVE.match(text, start)
            if move is None:
                found = _WORD.match(text, start)[0]  # type: ignore[index]  # it also matches nothing
                raise ValueError(
                    f"ply {len(squares) // 2 + 1}: expected an ICCS move such as h2e2 (files a to i, ranks 0 to 9), "
                    f"got {found if len(found) <= 12 else found[:12] + '...'!r}"
                )
            squares += move.groups()
            start = _BETWEEN.match(text, move.end()).end()  # type: ignore[union-attr]  # as above
        game = [square.lower() for square in squares]
        return game if self.vocab_name == "squares" else list("".join(game))

    def _convert_token_to_id(self, token: str) -> int:
        if token not in self._ids:
            raise ValueError(f"expected a token of the vocabulary, got {token!r:.60}")
        return self._ids[token]

    def _convert_id_to_token(self, index: int) -> str:
        if not 0 <= index < len(self._tokens):
            raise ValueError(f"expected an id from 0 to {len(self._tokens) - 1}, got {index}")
        return self._tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write `vocab.txt`, one token a line; return its path."""
        path = os.path.join(save_directory, (f"{filename_prefix}-" if filename_prefix else "") + _FILE_NAME)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{token}\n" for token in self._tokens)
        return (path,)


def _vocabulary(vocab: str | None, vocab_file: str | os.PathLike[str] | None) -> str:
    """Return the name of the vocabulary of the constructor's arguments."""
    if vocab is not None and vocab not in VOCABULARIES:
        raise ValueError(f"vocab must be 'characters' or 'squares', got {vocab!r:.60}")
    if vocab_file is None:
        return vocab or "characters"
    try:
        with open(vocab_file, encoding="utf-8") as file:
            tokens = tuple(line.strip() for line in file)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the vocabulary {vocab_file}: {error}") from None
    found = next((name for name, known in VOCABULARIES.items() if known == tokens), None)
    if found is None or vocab not in (None, found):
        raise ValueError(
            f"{vocab_file}: expected the tokens of the vocabulary {vocab or 'characters or squares'}, got "
            f"{f'those of {found}' if found else f'{len(tokens)} others'}"
        )
    return found


__all__ = ["XiangqiTokenizer"]
