"""A character BERT -> a WoBERT: the words that it lacks get tokens, and each token the mean of its pieces' rows.

What the original WoBERT began its training with (https://kexue.fm/archives/7758). Needs neither TensorFlow nor torch
nor transformers; tensors that do not depend on the vocabulary stay bit for bit, and the folder appears whole or not
at all, as with `convert`.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kexue_hf.conversion.bert_folder import is_saved_folder, open_bert_folder
from kexue_hf.conversion.convert import (
    OpenedSource,
    config_fields,
    element_type,
    notes_on,
    open_source,
    tokenizer_fields,
    write_json,
)
from kexue_hf.conversion.extended_card import extended_card
from kexue_hf.conversion.grown_weights import GrownWeights
from kexue_hf.conversion.model_card import auto_class, check_license
from kexue_hf.conversion.progress import progress_bar
from kexue_hf.conversion.python_files import python_files, references
from kexue_hf.conversion.safetensors_writer import write_safetensors
from kexue_hf.conversion.saved_vocabulary import source_vocabulary
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.weight_table import Move, expand
from kexue_hf.errors import ConversionError, InputError
from kexue_hf.models.wobert.normalization_wobert import Normalizer
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.vocabulary.counting import count_corpus, dictionary_frequencies
from kexue_hf.vocabulary.extending import choose_words, keep_tokens, speller
from kexue_hf.vocabulary.user_dictionary import read_user_dictionary

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
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


@dataclass(frozen=True)
class _Tokenizer:
    """What lives on of the source's tokenizer: added tokens and their flags, words for the segmenter, lower-casing."""

    added: dict[str, dict[str, bool]]
    user_words: tuple[str, ...]
    lower: bool


@dataclass(frozen=True)
class _Choice:
    """The new vocabulary: kept tokens with their rows, new words, the pieces of each, and words for the segmenter."""

    kept: dict[str, int]
    words: list[str]
    pieces: list[list[int]]
    new_user_words: int
    user_words: list[str]
    notes: list[str]


def extend(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    words: int = WORDS,
    corpus: Sequence[str | os.PathLike[str]] = (),
    text_column: str = "text",
    user_dict: str | os.PathLike[str] | None = None,
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
        source: a folder of transformers (config.json, safetensors, vocab.txt or tokenizer.json), or an original
            checkpoint as `convert` takes it. One that is word-based already keeps its words.
        output: the folder to make.
        words: how many words to add, the most frequent that the vocabulary lacks.
        corpus: files or folders of them (.txt a text a line, .jsonl, .json, .parquet, perhaps compressed) whose words
            are counted, numbers left out; without any, the frequencies of jieba's dictionary decide.
        text_column: where the text is, in all but .txt files.
        user_dict: a file of further words, all of which are added, and which the tokenizer cuts as one: one a line, in
            jieba's format.
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
    opened, tokenizer = _open(source, family, config, vocab, cased)
    with opened:
        choice = _choose(opened, tokenizer, words, corpus, text_column, user_dict, progress)
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
            with open(folder / "vocab.txt", "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{token}\n" for token in (*choice.kept, *choice.words))
            write_json(folder / "tokenizer_config.json", _tokenizer_fields(grown, tokenizer, choice))
            for path in python_files(found, references(found, grown.vocabulary.kind)):
                shutil.copyfile(path, folder / path.name)
            card = extended_card(
                Path(os.path.realpath(output)).name,
                found,
                architecture,
                Path(os.path.abspath(source)).name,
                len(choice.kept),
                choice.words,
                "a corpus" if corpus else "jieba's dictionary",
                choice.new_user_words,
                license,
                plan,
                wanted,
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
        vocabulary=source_vocabulary(opened.files.vocab, tokens),
        plan=replace(opened.plan, moves=moves, sizes=opened.plan.sizes | {_VOCABULARY: size}),
    )


def _open(
    source: str | os.PathLike[str],
    family: str,
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    cased: bool | None,
) -> tuple[OpenedSource, _Tokenizer]:
    if not os.fspath(source):
        raise InputError("SOURCE is empty; name a folder, a checkpoint prefix or a Keras file")
    if not is_saved_folder(source, config):
        return open_source(source, family=family, config=config, vocab=vocab), _Tokenizer({}, (), not cased)
    opened, found = open_bert_folder(source, family, vocab)
    return opened, _Tokenizer(found.added, found.user_words, found.do_lower_case if cased is None else not cased)


def _choose(
    opened: OpenedSource,
    tokenizer: _Tokenizer,
    number: int,
    corpus: Sequence[str | os.PathLike[str]],
    column: str,
    user_dict: str | os.PathLike[str] | None,
    progress: bool,
) -> _Choice:
    lower, vocabulary = tokenizer.lower, opened.vocabulary
    special = [token for token in vocabulary.special.values() if token]
    reserved = [*dict.fromkeys((*special, *tokenizer.added))]
    # First what may be wrong with a small file, then the long work.
    own = read_user_dictionary(user_dict, reserved, lower) if user_dict is not None else []
    corpus = [file for path in corpus for file in _corpus_files(Path(path))]
    kept = keep_tokens(vocabulary.ids, SPECIAL_TOKENS, reserved, words=vocabulary.has_words)
    ids = {token: index for index, token in enumerate(kept)}
    normalize = Normalizer(lower)
    segmenter = Segmenter(map(normalize, tokenizer.user_words)) if vocabulary.has_words else None
    pieces_of = speller(ids, ids["[UNK]"], lower, segmenter)
    notes: list[str] = []
    words: list[str] = []
    if number:
        dictionary = dictionary_frequencies(lower)
        if corpus:
            with _counting(progress) as seen:
                counts = count_corpus(_texts(corpus, column, seen), lower=lower)
            # The character vocabulary has the common numbers.
            seldom = {word: count for word, count in counts.words.items() if not word.isdecimal()}
            words = choose_words(seldom, number, ids, pieces_of, ids["[UNK]"], dictionary)
            if counts.forgotten and words and counts.words[words[-1]] <= counts.forgotten:
                notes.append(
                    f"the corpus has so many different words that the rarest were not all counted: words with fewer "
                    f"than {counts.forgotten} occurrences may be missing"
                )
        else:
            words = choose_words(dictionary, number, ids, pieces_of, ids["[UNK]"])
        if len(words) < number:
            notes.append(
                f"{len(words):,} of {number:,} words were found: {'the corpus' if corpus else 'the dictionary'} has "
                "no more that the vocabulary lacks and can spell"
            )
    new = _new_user_words(own, normalize, {*ids, *words}, ids["[UNK]"], pieces_of, notes)
    words = [*words, *new]
    merged = [*dict.fromkeys((*tokenizer.user_words, *own))]
    return _Choice(kept, words, [pieces_of(word) for word in words], len(new), merged, notes)


def _new_user_words(
    own: list[str],
    normalize: Normalizer,
    known: set[str],
    unk_id: int,
    pieces_of: Callable[[str], list[int]],
    notes: list[str],
) -> list[str]:
    """The user's words that need a row, normalised; what is worth knowing of the others goes into the notes."""
    normal = [normalize(word) for word in own]
    there = [word for word in normal if word in known]
    new = [word for word in normal if word not in known]
    if empty := [word for word in new if not pieces_of(word)]:
        raise InputError(f"words of the user dictionary leave no token: {', '.join(map(repr, empty[:5]))}")
    if there:
        notes.append(f"{len(there)} words of the user dictionary have a token already: {_some(there)}")
    if strange := [word for word in new if unk_id in pieces_of(word)]:
        notes.append(
            f"{len(strange)} words of the user dictionary have characters that the vocabulary lacks, their vectors "
            f"begin at [UNK]'s: {_some(strange)}"
        )
    return new


def _counting(progress: bool) -> Any:
    """A bar over characters read, where somebody is looking; its total is not known beforehand."""
    import sys

    if not progress or not sys.stderr.isatty():
        return nullcontext(None)
    from tqdm import tqdm

    return tqdm(unit=" characters", unit_scale=True, desc="counting words", leave=False)


def _corpus_files(path: Path) -> list[Path]:
    """A file, or the files of text in a folder."""
    from kexue_hf.corpora.text_files import FORMS, is_text_file

    found = [path] if path.is_file() else sorted(filter(is_text_file, path.iterdir())) if path.is_dir() else []
    if not found or not all(map(is_text_file, found)):
        raise InputError(
            f"{path}: expected a file of text ({', '.join(FORMS)}, perhaps .gz) or a folder of such files"
        )
    return found


def _texts(corpus: Sequence[str | os.PathLike[str]], column: str, bar: Any) -> Iterable[str]:
    from kexue_hf.corpora.text_files import read_texts

    for text in read_texts([os.fspath(path) for path in corpus], column):
        if bar is not None:
            bar.update(len(text))
        yield text


def _tokenizer_fields(opened: OpenedSource, tokenizer: _Tokenizer, choice: _Choice) -> dict[str, Any]:
    fields = tokenizer_fields(opened, cased=not tokenizer.lower)
    decoder = dict(fields["added_tokens_decoder"])
    for token, flags in tokenizer.added.items():
        index = str(opened.vocabulary.ids[token])
        decoder.setdefault(index, {"content": token, **flags})
    fields["added_tokens_decoder"] = dict(sorted(decoder.items(), key=lambda item: int(item[0])))
    fields["user_words"] = choice.user_words
    return fields


def _some(words: Sequence[str], limit: int = 5) -> str:
    return ", ".join(words[:limit]) + (f", ... ({len(words) - limit} more)" if len(words) > limit else "")
