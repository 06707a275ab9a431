"""A character BERT -> a WoBERT: the words that it lacks get tokens, and each token the mean of its pieces' rows.

What the original WoBERT began its training with (https://kexue.fm/archives/7758). Needs neither TensorFlow nor torch
nor transformers; tensors that do not depend on the vocabulary stay bit for bit, and the folder appears whole or not
at all, as with `convert`.
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.bert_folder import is_saved_folder, open_bert_folder
from kexue_hf.conversion.convert import (
    config_fields,
    element_type,
    notes_on,
    tokenizer_fields,
    write_json,
    write_lines,
)
from kexue_hf.conversion.derived_weights import GrownWeights
from kexue_hf.conversion.formats.safetensors import write_safetensors
from kexue_hf.conversion.formats.transfer import progress_bar
from kexue_hf.conversion.model_card import auto_class, check_license, extension, model_card
from kexue_hf.conversion.original_source import OpenedSource, open_source
from kexue_hf.conversion.python_files import python_files, references
from kexue_hf.conversion.source import line_problem, source_vocabulary
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.formats.weight_source import Move
from kexue_hf.conversion.weight_table import expand
from kexue_hf.conversion.word_choice import Choice, SourceTokenizer, choose
from kexue_hf.errors import ConversionError, InputError
from kexue_hf.files.hub_names import is_hub_name, local_source

WORDS = 20_000
_VOCABULARY = "vocab_size"


@dataclass(frozen=True)
class ExtensionReport:
    """What an extension did: where the result lies, and what became of the vocabulary.

    `kept` and `dropped` count the source's tokens; `words` are the new ones in the order of their ids, the last
    `user_words` of which come from the user dictionary; `left_out` are tensors, with the reason.
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
        """The number of tokens of the new vocabulary."""
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
    """Make a word-based model of a character BERT.

    Args:
        source: a folder of transformers (config.json, safetensors or pytorch_model.bin, vocab.txt or tokenizer.json),
            the name of one on the Hub, or an original checkpoint as `convert` takes it. One that is word-based already
            keeps its words.
        output: the folder to make.
        words: how many words to add, the most frequent that the vocabulary lacks.
        corpus: one or several files, globs or folders with all below them (.txt a text a line, .jsonl, .json,
            .parquet, perhaps compressed) whose words are counted, numbers left out; without any, the frequencies of
            jieba's dictionary decide.
        text_column: where the text is, in all but .txt files.
        user_dict: a file of further words, all of which are added, and which the tokenizer cuts as one: one a line, in
            jieba's format. Lines that cannot become words are skipped and counted in a note.
        strict: refuse a user dictionary with such a line.
        family: "auto", or the family that the source has to be of, as for `convert`.
        config, vocab: the configuration and the vocabulary, where they do not lie beside the checkpoint.
        dtype: "float32", "float16" or "bfloat16"; None keeps every tensor's type.
        license: what the card says, as the Hub spells it ("apache-2.0").
        cased: whether the tokenizer keeps capitals apart; None for what the source's tokenizer does (an original
            checkpoint: no).
        overwrite: replace a model folder at `output`, when the new one is complete.
        progress: show bars on stderr.

    Raises:
        CheckpointError: the source is missing, damaged, or of another kind (a pickle).
        ConversionError: the source does not fit its configuration or its vocabulary.
        InputError: an argument, a corpus or the user dictionary is wrong.
        OutputError: the result cannot be written. Whatever is raised, nothing new is at `output`.
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
        if "words" not in opened.table.TOKENIZERS:
            raise InputError(
                f"{source}: is a {opened.table.FAMILY}, whose tokenizer cuts no words; a BERT, NEZHA or RoFormer can "
                "be extended"
            )
        choice = choose(opened.vocabulary, tokenizer, words, corpus, text_column, user_dict, progress, strict)
        _check_lines(opened.files.vocab, choice.kept)
        grown = grow(opened, choice.kept, choice.words, choice.pieces)
        plan = grown.plan
        total = sum(grown.weights.tensors[move.source].size for move in plan.moves)
        fields, architecture = config_fields(grown, wanted)
        files, found = grown.files, grown.table.FAMILY
        inputs = (*corpus, *([user_dict] if user_dict is not None else []))
        keep = (Path(source), files.path.parent, files.config, files.vocab, *grown.weights.files, *map(Path, inputs))
        with staged_folder(output, overwrite=overwrite, need=total, keep=keep) as folder:
            with progress_bar(total, show=progress) as on_bytes:
                moved = [*plan.moves, *plan.constants]
                size = write_safetensors(folder / "model.safetensors", grown.weights, moved, wanted, on_bytes)
            write_json(folder / "config.json", fields)
            write_lines(folder / "vocab.txt", (*choice.kept, *choice.words))
            write_json(folder / "tokenizer_config.json", _tokenizer_fields(grown, tokenizer, choice))
            for path in python_files(found, references(found, grown.vocabulary.kind)):
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
                Path(os.path.realpath(output)).name, found, architecture, origin, license, grown.vocabulary.kind, "zh"
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
                *notes_on(grown, fields["dtype"], family if files.kind != "safetensors" else found),
            ],
        )


def grow(
    opened: OpenedSource, kept: dict[str, int], words: Sequence[str], pieces: Sequence[Sequence[int]]
) -> OpenedSource:
    """A source with another vocabulary: `kept` (token -> row), then `words`, each the mean of its pieces.

    Args:
        pieces: for each word the ids of its pieces, in the new vocabulary, all of them below `len(kept)`.

    Raises:
        ConversionError: the weights have the vocabulary where this does not know it.
    """
    size = len(kept) + len(words)
    parameters = expand(opened.table.PARAMETERS, opened.config.sizes)
    names, moves = [], []
    for move in opened.plan.moves:
        where = [place for place, length in enumerate(parameters[move.target][1]) if length == _VOCABULARY]
        if where and (where != [0] or move.transposed):
            raise ConversionError(f"tensor {move.source!r} has the vocabulary in another place than its rows")
        if where:
            names.append(move.source)
            move = Move(move.source, move.target, move.transposed, (size, *move.shape[1:]), move.type)
        moves.append(move)
    tokens = {token: index for index, token in enumerate((*kept, *words))}
    return replace(
        opened,
        weights=GrownWeights(opened.weights, names, list(kept.values()), pieces),
        config=replace(opened.config, fields=opened.config.fields | {_VOCABULARY: size}),
        vocabulary=source_vocabulary(opened.files.vocab, tokens, "words", opened.table),
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
        return open_source(source, family=family, config=config, vocab=vocab), SourceTokenizer({}, (), not cased)
    opened, found = open_bert_folder(source, family, vocab)
    return opened, SourceTokenizer(found.added, found.user_words, found.do_lower_case if cased is None else not cased)


def _spare_rows(opened: OpenedSource) -> list[str]:
    spare = opened.config.fields[_VOCABULARY] - len(opened.vocabulary.ids)
    return [f"{spare} rows of the source's embeddings that belong to no token were left out"] if spare > 0 else []


def _check_lines(path: Path, kept: Iterable[str]) -> None:
    """The result's vocabulary is a file of lines; `tokenizer.json` may hold what is none."""
    for token in kept:
        if problem := line_problem(token):
            raise ConversionError(
                f"{path}: the token {token!r:.60} {problem}: vocab.txt cannot hold it; take it out of the source's "
                "tokenizer, and give it to the new one (tokenizer.add_tokens) where you need it"
            )


def _tokenizer_fields(opened: OpenedSource, tokenizer: SourceTokenizer, choice: Choice) -> dict[str, Any]:
    added = {opened.vocabulary.ids[token]: {"content": token, **row} for token, row in tokenizer.added.items()}
    return tokenizer_fields(opened, not tokenizer.lower, added, choice.user_words)
