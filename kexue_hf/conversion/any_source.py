"""Opens whatever `convert` takes: an original checkpoint, or a folder that another implementation saved."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kexue_hf.conversion.bert_folder import is_saved_folder, open_bert_folder
from kexue_hf.conversion.original_source import OpenedSource, open_source
from kexue_hf.conversion.saved_folder import FolderVocabulary
from kexue_hf.conversion.source import load_json_object, source_vocabulary
from kexue_hf.errors import CheckpointError, InputError
from kexue_hf.files.hub_names import local_source

# Weights for TensorFlow that transformers saved: no layers of Keras or bert4keras.
_NO_ORIGINAL = ("tf_model.h5",)


def open_any(
    source: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
) -> tuple[OpenedSource, FolderVocabulary | None]:
    """Open a source; the vocabulary of the folder's tokenizer too, where it is a folder. Errors as `convert`."""
    source = local_source(source)
    if _holds_original(source) or not is_saved_folder(source, config):
        opened = open_source(
            source,
            family=family,
            config=config,
            vocab=vocab,
            task_names=task_names,
            head=head,
            keep_tokens=keep_tokens,
        )
        return opened, None
    given = {"--task-names": task_names, "--keep-tokens": keep_tokens, "--head": None if head == "auto" else head}
    if wrong := next((option for option, value in given.items() if value is not None), None):
        raise InputError(f"{wrong}: {source} is a folder of transformers, whose configuration says that")
    _check_that_it_is_foreign(Path(source))
    opened, found = open_bert_folder(source, family, vocab)
    try:
        ids = {token: index for index, token in enumerate(opened.lines)}
        opened = replace(opened, vocabulary=source_vocabulary(found.path, ids, table=opened.table))
        if opened.table.FAMILY == "wobert" and not opened.vocabulary.has_words:
            raise InputError(
                f"{source}: is a BERT of characters, which transformers loads as it is; kexue-hf extend makes a "
                "WoBERT of it"
            )
    except BaseException:
        opened.weights.close()
        raise
    return opened, found


def _holds_original(source: str | os.PathLike[str]) -> bool:
    folder = Path(source)
    if not folder.is_dir():
        return False
    names = [path.name for path in folder.iterdir()]
    return any(
        name.endswith(".index") or (name.endswith((".h5", ".hdf5", ".weights")) and name not in _NO_ORIGINAL)
        for name in names
    )


def _check_that_it_is_foreign(folder: Path) -> None:
    """Raise CheckpointError for a folder that loads as it is, because this package or transformers saved it."""
    config = load_json_object(folder / "config.json")
    if config.get("model_type") == "bert" or not config.get("vocab_fingerprint"):
        return
    raise CheckpointError(f"{folder}: holds no checkpoint: it is a HuggingFace folder already")


__all__ = ["open_any"]
