"""A model folder as a SentenceTransformer whose vectors are those of `sentence_vectors`.

sentence-transformers' mean counts the tokens around a text ([SOS] and [EOS], [CLS] and [SEP]) as well; T-TA's vector
leaves them out (arXiv 2004.08097). It is made of sentence-transformers' own modules: token weights, which are 0 for
those tokens and 1 for all others, and the mean. So a saved folder names no module class of ours, which
sentence-transformers would only load with `trust_remote_code=True`, this package installed or not. The flag is needed
for the network itself, and only where this package has not been imported.
"""

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from kexue_hf.errors import InputError
from kexue_hf.pipelines.sentence_vectors import excluded_ids
from kexue_hf.pipelines.text_windows import frame_of, longest_row, room_in

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build_sentence_transformer(
    folder: str | PathLike[str],
    *,
    max_length: int | None = None,
    normalize: bool = False,
    model_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> "SentenceTransformer":
    """A SentenceTransformer of the encoder and the tokenizer in `folder`: `encode`, train, `save_pretrained`.

    Its vectors are those of `sentence_vectors`, but for texts longer than the model's positions: sentence-transformers
    cuts them off. The token weights are frozen; in a model that was saved and loaded again they are parameters like
    others, so freeze them before training: `model[1].requires_grad_(False)`.

    Args:
        folder: a saved T-TA, WoBERT, NEZHA or other encoder with its tokenizer, or its name on the Hub.
        max_length: tokens from which on a text is cut off; None for what model and tokenizer allow.
        normalize: scale vectors to length 1.
        model_kwargs: for the network's `from_pretrained`, such as `{"dtype": "float32"}`.
        options: passed on to SentenceTransformer, such as `device`.

    Raises:
        InputError: sentence-transformers is not installed, there is no such model, or `max_length` has no room for a
            token or is more than the model takes.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer, WordWeights
    except ImportError as error:
        raise InputError(
            "sentence-transformers 5.4 or newer is needed: pip install 'kexue-hf[sentence-transformers]'"
        ) from error

    try:
        encoder = Transformer(fspath(folder), max_seq_length=max_length, model_kwargs=dict(model_kwargs or {}))
    except OSError as error:
        raise InputError(f"{fspath(folder)} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    tokenizer = encoder.tokenizer
    if max_length is None:
        # sentence-transformers takes the table of positions for the bound; the tokenizer's own is in its arguments.
        tokenizer.model_max_length = tokenizer.init_kwargs.get("model_max_length", tokenizer.model_max_length)
        tokenizer.model_max_length = longest_row(encoder.model, tokenizer)
        if tokenizer.model_max_length > getattr(encoder.model.config, "max_position_embeddings", 0):
            # Saved, so that loading does not cap it again.
            encoder.config_keys = [*encoder.config_keys, "max_seq_length"]
    else:
        # Without the tokenizer, whose bound sentence-transformers has made of it.
        try:
            room_in(encoder.model, None, frame_of(tokenizer), max_length)
        except ValueError as error:
            raise InputError(str(error)) from error
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    # The position in this list is the id; an id that no text leads to may have any name.
    vocabulary = [names.get(index, "") for index in range(max(names) + 1)]
    around = {names[index]: 0.0 for index in excluded_ids(tokenizer)}
    weights = WordWeights(vocabulary, around, unknown_word_weight=1.0)
    weights.requires_grad_(False)
    mean = Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    modules = [encoder, weights, mean, *([Normalize()] if normalize else [])]
    return SentenceTransformer(modules=modules, **options)


__all__ = ["build_sentence_transformer"]
