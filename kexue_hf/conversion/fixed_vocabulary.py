"""The vocabulary of a family that knows its tokens, such as the characters of a Chinese-chess model.

A model with such a vocabulary is trained from a whole BERT, whose configuration and vocabulary lie beside the weights
of both. The weights of the model are converted as they are; from those of the BERT, the rows of the tokens are kept.
"""

from collections.abc import Sequence
from dataclasses import replace

from kexue_hf.conversion.derived_weights import ExtendedWeights
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import Plan, expand
from kexue_hf.errors import ConversionError


def fixed_tokens(
    path: object, weight_map: WeightMap, embeddings: int, lines: Sequence[str], kept: Sequence[str] | None
) -> tuple[list[str], list[int] | None]:
    """Return the tokens, and the rows to keep of the checkpoint's embeddings; None if it holds these tokens alone.

    Args:
        path: the vocabulary file, for messages.
        embeddings: the number of embeddings of the checkpoint.
        lines: the tokens of the vocabulary file.
        kept: the tokens that `--keep-tokens` names. Without it, a whole BERT's checkpoint gives the smallest of the
            family's vocabularies.

    Raises:
        ConversionError: the tokens are not those of the family, or the vocabulary file lacks them.
    """
    known = weight_map.FIXED_VOCABULARIES
    whole = embeddings not in known
    tokens = known.get(embeddings) or known.get(len(kept or known[min(known)]), known[min(known)])
    given = kept if kept is not None else lines if len(lines) == embeddings and not whole else tokens
    if list(given) != list(tokens):
        place = next((place for place, (one, other) in enumerate(zip(given, tokens, strict=False)) if one != other), 0)
        raise ConversionError(
            f"{path}: token {place} is {given[place]!r:.60}, expected {tokens[place]!r}: a {weight_map.FAMILY} has "
            f"the tokens {', '.join(tokens[:4])}, ..., {tokens[-1]}"
        )
    if not whole:
        return list(tokens), None
    ids = {token: index for index, token in enumerate(lines)}
    missing = [token for token in tokens if token not in ids]
    if missing:
        raise ConversionError(
            f"{path}: lacks {', '.join(missing[:8])}; a {weight_map.FAMILY} starts from a BERT whose vocabulary has "
            f"its {len(tokens)} tokens"
        )
    return list(tokens), [ids[token] for token in tokens]


def keep_rows(
    weight_map: WeightMap, plan: Plan, weights: WeightSource, rows: Sequence[int]
) -> tuple[Plan, WeightSource]:
    """Return the plan and the weights with only these rows of the tensors that have one for each token."""
    parameters = expand(weight_map.PARAMETERS, plan.sizes)
    names, moves = [], []
    for move in plan.moves:
        if parameters[move.target][1][0] == "vocab_size":
            names.append(move.source)
            move = replace(move, shape=(len(rows), *move.shape[1:]))
        moves.append(move)
    plan = replace(plan, moves=moves, sizes=plan.sizes | {"vocab_size": len(rows)})
    return plan, ExtendedWeights(weights, names, rows, ())


__all__ = ["fixed_tokens", "keep_rows"]
