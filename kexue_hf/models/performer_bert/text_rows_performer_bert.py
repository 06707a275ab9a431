"""Texts as rows of a model's inputs: how many tokens of each, and which models cannot be run on texts alone."""

from typing import Any

# Of calibration and training, where nothing else is said: exact softmax over all pairs, which longer ones pay for.
ROW_LENGTH = 256


def row_length(model: Any, tokenizer: Any, max_length: int | None = None) -> int:
    """Tokens of a text, special ones included, at most.

    Args:
        max_length: what is asked for. It may be more than the tokenizer's `model_max_length`, which is a remark, but
            not more than there are positions. None: `ROW_LENGTH`, or what model and tokenizer name if that is less.

    Raises:
        ValueError: `max_length` is more than the model takes, or below 1.
    """
    longest = _positions(model)
    if max_length is None:
        bounds = (longest, getattr(tokenizer, "model_max_length", None))
        return min(ROW_LENGTH, *(bound for bound in bounds if bound is not None and bound > 0))
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    if longest is not None and max_length > longest:
        raise ValueError(f"max_length must be at most {longest} for this model, got {max_length}")
    return max_length


def _positions(model: Any) -> int | None:
    """How many the model has; None where it does not say."""
    config = getattr(model, "config", None)
    found = getattr(config, "max_position_embeddings", None)
    if not isinstance(found, int) or found < 1:
        return None
    if getattr(config, "model_type", None) == "performer_bert":
        return found**2  # they go on beyond the table
    # `base_model` is the model itself where it has no head.
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    if any(hasattr(embeddings, f"create_position_ids_from_{what}") for what in ("input_ids", "inputs_embeds")):
        # RoBERTa's begin after that of the padding.
        found -= (getattr(config, "pad_token_id", None) or 0) + 1
    return found


def refuse_several_tasks(model: Any) -> None:
    """Texts do not say which task of a matcher they are for.

    Raises:
        ValueError: the model has several.
    """
    names = getattr(getattr(model, "config", None), "task_names", None)
    if callable(getattr(model, "fold_task", None)) and isinstance(names, list | tuple) and len(names) > 1:
        raise ValueError(
            f"{type(model).__name__} has {len(names)} tasks ({', '.join(map(repr, names))}), and texts alone are of "
            f"none: fold one first, model.fold_task({names[0]!r}), and take the model that this gives"
        )


__all__ = ["ROW_LENGTH", "refuse_several_tasks", "row_length"]
