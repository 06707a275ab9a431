"""Build a SentenceTransformer from a model folder, with the vectors of `sentence_vectors`.

The mean in sentence-transformers includes the tokens around a text ([SOS] and [EOS], [CLS] and [SEP]); T-TA's vector
leaves them out (arXiv 2004.08097). The result consists of modules of sentence-transformers only: token weights, 0 for
those tokens and 1 for all others, and the mean. So sentence-transformers loads a saved folder without
`trust_remote_code=True`, which it demands for module classes of other packages even if they are installed. The network
in the folder needs that flag only where this package has not been imported.
"""

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from kexue_hf.errors import InputError
from kexue_hf.files.quiet_loading import first_line
from kexue_hf.pipelines.sentence_vectors import excluded_ids
from kexue_hf.pipelines.text_windows import default_max_length, frame_of, window_capacity

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
    """Build a SentenceTransformer from the encoder and the tokenizer in `folder`, to encode, train and save.

    Its vectors are those of `sentence_vectors`, except that sentence-transformers truncates texts that are longer than
    the model's positions. The token weights are frozen. In a model that was saved and loaded again they are trainable,
    so freeze them before training: `model[1].requires_grad_(False)`.

    Args:
        folder: a saved T-TA, WoBERT, NEZHA or other encoder with its tokenizer, or its name on the Hub.
        max_length: texts are truncated to this number of tokens; None for the limit of model and tokenizer.
        normalize: scale vectors to length 1.
        model_kwargs: passed to the network's `from_pretrained`, such as `{"dtype": "float32"}`.
        options: passed to SentenceTransformer, such as `device`.

    Raises:
        InputError: sentence-transformers is not installed, the model does not exist, or `max_length` leaves no room
            for a token or is more than the model takes.
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
        raise InputError(f"{fspath(folder)} cannot be loaded: {first_line(error)}") from error
    tokenizer = encoder.tokenizer
    if max_length is None:
        # sentence-transformers overwrote the tokenizer's limit with the size of the position table.
        tokenizer.model_max_length = tokenizer.init_kwargs.get("model_max_length", tokenizer.model_max_length)
        tokenizer.model_max_length = default_max_length(encoder.model, tokenizer)
        if tokenizer.model_max_length > getattr(encoder.model.config, "max_position_embeddings", 0):
            # Save the limit, so that loading does not lower it again.
            encoder.config_keys = [*encoder.config_keys, "max_seq_length"]
    else:
        # Without the tokenizer: sentence-transformers set its limit to `max_length`.
        try:
            window_capacity(encoder.model, None, frame_of(tokenizer), max_length)
        except ValueError as error:
            raise InputError(str(error)) from error
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    # WordWeights takes a list indexed by id; ids that no text produces may have any name.
    vocabulary = [names.get(index, "") for index in range(max(names) + 1)]
    around = {names[index]: 0.0 for index in excluded_ids(tokenizer)}
    weights = WordWeights(vocabulary, around, unknown_word_weight=1.0)
    weights.requires_grad_(False)
    mean = Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    modules = [encoder, weights, mean, *([Normalize()] if normalize else [])]
    return SentenceTransformer(modules=modules, **options)


__all__ = ["build_sentence_transformer"]
