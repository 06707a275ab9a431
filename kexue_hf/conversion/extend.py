"""Extend a character BERT to a WoBERT: each new word gets a token, initialised to the mean of its word pieces.

This is how the original WoBERT started its training (https://kexue.fm/archives/7758). It needs neither TensorFlow nor
torch nor transformers. Tensors that do not depend on the vocabulary stay equal bit for bit, and the folder appears
complete or not at all, as with `convert`.
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.convert import (
    config_fields,
    element_type,
    notes_on,
    tokenizer_fields,
    write_json,
    write_lines,
)
from kexue_hf.conversion.derived_weights import ExtendedWeights
from kexue_hf.conversion.families import has_masked_lm
from kexue_hf.conversion.formats.safetensors import write_safetensors
from kexue_hf.conversion.formats.transfer import progress_bar
from kexue_hf.conversion.formats.weight_source import Move
from kexue_hf.conversion.model_card import auto_class, check_license, extension, model_card
from kexue_hf.conversion.open_source import OpenedSource, is_saved_folder, open_original, open_transformers_folder
from kexue_hf.conversion.python_files import python_files, references
from kexue_hf.conversion.source import line_problem, source_vocabulary
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import expand
from kexue_hf.conversion.word_choice import Choice, SourceTokenizer, choose
from kexue_hf.errors import ConversionError, InputError
from kexue_hf.files.hub_names import is_hub_name, local_source

WORDS = 20_000
_VOCABULARY = "vocab_size"


@dataclass(frozen=True)
class ExtensionReport:
    """The result of an extension.

    `kept` counts the tokens kept from the source, `dropped` lists the others. `words` are the new words in the order
    of their ids; the last `user_words` of them come from the user dictionary. `left_out` lists (tensor, reason).
    """

    output: Path
    family: str
    architecture: str
    auto_class: str
    kept: int
    dropped: list[str]
    words: list[str]
    user_words: int
    parameters: int
    left_out: list[tuple[str, str]]
    bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def vocab_size(self) -> int:
        """The size of the new vocabulary."""
        return self.kept + len(self.words)


def extend(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    words: int = WORDS,
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    text_column: str = "text",
    user_dict: str | os.PathLike[str] | None = None,
    strict: bool = False,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    license: str | None = None,
    cased: bool | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> ExtensionReport:
    """Make a word-based model from a character BERT.

    Args:
        source: a transformers folder (config.json, safetensors or pytorch_model.bin, vocab.txt or tokenizer.json), its
            name on the Hub, or an original checkpoint as for `convert`. A word-based source keeps its words.
        output: the folder to write.
        words: number of words to add: the most frequent words that the vocabulary lacks.
        corpus: files, globs or folders (searched recursively) of text in which to count words, numbers excluded: .txt
            (one text a line), .jsonl, .json, .parquet, optionally compressed. Without a corpus, the frequencies in
            jieba's dictionary decide.
        text_column: column of the text in all but .txt files.
        user_dict: a file of further words in jieba's format, one a line. All are added, and the tokenizer never splits
            them. Lines that cannot become words are skipped and counted in a note.
        strict: refuse a user dictionary with a line that cannot become a word.
        family: "auto", or the expected family of the source, as for `convert`.
        config, vocab: the configuration and the vocabulary, if they are not beside the checkpoint.
        dtype: "float32", "float16" or "bfloat16"; None keeps every tensor's type.
        license: licence identifier of the Hub for the card ("apache-2.0").
        cased: make a tokenizer that does not lower-case; None does as the source's tokenizer (an original checkpoint
            lower-cases).
        overwrite: replace a model folder at `output` once the new one is complete.
        progress: show progress bars on stderr.

    Raises:
        CheckpointError: the source is missing, damaged, or not a checkpoint.
        ConversionError: the source does not fit its configuration or its vocabulary.
        InputError: an argument, a corpus or the user dictionary is wrong.
        OutputError: the result cannot be written. After any of these errors, `output` is unchanged.
    """
    started = time.perf_counter()
    if isinstance(words, bool) or not isinstance(words, int) or words < 0 or (not words and user_dict is None):
        raise InputError(f"--words {words!r:.40}: expected a number of words, at least 1 (or 0 and --user-dict)")
    check_output(output, overwrite=overwrite)
    check_license(license)
    wanted = element_type(dtype)
    corpus = [corpus] if isinstance(corpus, str | os.PathLike) else corpus
    name, source = os.fspath(source), local_source(source)
    opened, tokenizer = _open(source, family, config, vocab, cased)
    with opened:
        if problem := _unsuited(opened.weight_map):
            raise InputError(f"{source}: expected a BERT, NEZHA or RoFormer, got a {problem}")
        choice = choose(opened.vocabulary, tokenizer, words, corpus, text_column, user_dict, progress, strict)
        _check_lines(opened.files.vocab, choice.kept)
        extended = extend_source(opened, choice.kept, choice.words, choice.pieces)
        plan = extended.plan
        total = sum(extended.weights.tensors[move.source].size for move in plan.moves)
        fields, architecture = config_fields(extended, wanted)
        files, found = extended.files, extended.weight_map.FAMILY
        inputs = (*corpus, *([user_dict] if user_dict is not None else []))
        keep = (
            Path(source),
            files.path.parent,
            files.config,
            files.vocab,
            *extended.weights.files,
            *map(Path, inputs),
        )
        with staged_folder(output, overwrite=overwrite, need=total, keep=keep) as folder:
            with progress_bar(total, show=progress) as on_bytes:
                moves = [*plan.moves, *plan.derived]
                size = write_safetensors(folder / "model.safetensors", extended.weights, moves, wanted, on_bytes)
            write_json(folder / "config.json", fields)
            write_lines(folder / "vocab.txt", (*choice.kept, *choice.words))
            write_json(folder / "tokenizer_config.json", _tokenizer_fields(extended, tokenizer, choice))
            for path in python_files(found, references(found, extended.vocabulary.kind)):
                shutil.copyfile(path, folder / path.name)
            origin = extension(
                found,
                name if is_hub_name(name) and not os.path.exists(name) else Path(os.path.abspath(name)).name,
                len(choice.kept),
                choice.words,
                "a corpus" if corpus else "jieba's dictionary",
                choice.new_user_words,
                plan,
                wanted,
            )
            card = model_card(
                Path(os.path.realpath(output)).name,
                found,
                architecture,
                origin,
                license,
                extended.vocabulary.kind,
                "zh",
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
        kept = set(choice.kept)
        return ExtensionReport(
            Path(output),
            found,
            architecture,
            auto_class(architecture),
            len(choice.kept),
            [token for token in opened.vocabulary.ids if token not in kept],
            choice.words,
            choice.new_user_words,
            plan.parameters,
            plan.dropped,
            size,
            time.perf_counter() - started,
            [
                *_spare_rows(opened),
                *choice.notes,
                *notes_on(extended, fields["dtype"], family if files.kind != "safetensors" else found),
            ],
        )


def extend_source(
    opened: OpenedSource, kept: dict[str, int], words: Sequence[str], pieces: Sequence[Sequence[int]]
) -> OpenedSource:
    """Return a source with another vocabulary: the kept tokens, then the words.

    Args:
        kept: token -> row in the source.
        words: the new words; the row of each is the mean of its word pieces.
        pieces: for each word, the ids of its word pieces in the new vocabulary, all below `len(kept)`.

    Raises:
        ConversionError: a tensor has the vocabulary on another axis than its first.
    """
    size = len(kept) + len(words)
    parameters = expand(opened.weight_map.PARAMETERS, opened.config.sizes)
    names, moves = [], []
    for move in opened.plan.moves:
        where = [place for place, length in enumerate(parameters[move.target][1]) if length == _VOCABULARY]
        if where and (where != [0] or move.transposed):
            raise ConversionError(f"tensor {move.source!r}: expected the vocabulary on its first axis only")
        if where:
            names.append(move.source)
            move = Move(move.source, move.target, move.transposed, (size, *move.shape[1:]), move.type)
        moves.append(move)
    tokens = {token: index for index, token in enumerate((*kept, *words))}
    return replace(
        opened,
        weights=ExtendedWeights(opened.weights, names, list(kept.values()), pieces),
        config=replace(opened.config, fields=opened.config.fields | {_VOCABULARY: size}),
        vocabulary=source_vocabulary(opened.files.vocab, tokens, "words", opened.weight_map),
        plan=replace(opened.plan, moves=moves, sizes=opened.plan.sizes | {_VOCABULARY: size}),
    )


def _open(
    source: str | os.PathLike[str],
    family: str,
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    cased: bool | None,
) -> tuple[OpenedSource, SourceTokenizer]:
    if not os.fspath(source):
        raise InputError("SOURCE is empty; name a folder, a checkpoint prefix or a Keras file")
    if not is_saved_folder(source, config):
        return open_original(source, family=family, config=config, vocab=vocab), SourceTokenizer({}, (), not cased)
    opened, found = open_transformers_folder(source, family, vocab)
    return opened, SourceTokenizer(found.added, found.user_words, found.do_lower_case if cased is None else not cased)


def _unsuited(weight_map: WeightMap) -> str | None:
    """Return the family and why its vocabulary cannot be extended; None if it can."""
    if "words" not in weight_map.TOKENIZERS:
        return f"{weight_map.FAMILY}, whose tokenizer has no words"
    # Thousands of new embeddings can be trained by masked language modelling only.
    if not has_masked_lm(weight_map):
        return (
            f"{weight_map.FAMILY}, which has no masked language model to train the new words with: extend the encoder "
            "that it starts from, or add a few words with kexue_hf.add_words and continue its training"
        )
    return None


def _spare_rows(opened: OpenedSource) -> list[str]:
    spare = opened.config.fields[_VOCABULARY] - len(opened.vocabulary.ids)
    return [f"{spare} rows of the source's embeddings without a token were left out"] if spare > 0 else []


def _check_lines(path: Path, kept: Iterable[str]) -> None:
    """Raise ConversionError for a token that cannot be a line of vocab.txt; `tokenizer.json` may hold such tokens."""
    for token in kept:
        if problem := line_problem(token):
            raise ConversionError(
                f"{path}: the token {token!r:.60} {problem}: vocab.txt cannot hold it; remove it from the source's "
                "tokenizer, and add it to the new one with tokenizer.add_tokens if you need it"
            )


def _tokenizer_fields(opened: OpenedSource, tokenizer: SourceTokenizer, choice: Choice) -> dict[str, Any]:
    added = {opened.vocabulary.ids[token]: {"content": token, **row} for token, row in tokenizer.added.items()}
    return tokenizer_fields(opened, not tokenizer.lower, added, choice.user_words)
