"""Figures that tell healthy sentence vectors from collapsed ones."""

import numpy as np

from kexue_hf.errors import InputError


def vector_figures(vectors: np.ndarray) -> dict[str, float]:
    """Return figures of the spread of vectors.

    The vectors are normalised first; a vector of zeros stays zero.

    Args:
        vectors: [texts, size]; at least two texts, all different.

    Returns:
        `spread`: standard deviation over the texts, averaged over the dimensions, times sqrt(size). About 1 if they
            point in all directions, 0 if they are equal (arXiv 2011.10566).
        `effective_rank`: exponential of the entropy of the normalised singular values of the centred vectors (Roy and
            Vetterli 2007), from 1 to min(texts - 1, size); 0 if they are equal. A low rank is dimensional collapse.
        `mean_cosine`: over all pairs of different texts.
        `uniformity`: log of the mean of exp(-2 distance^2) over all pairs, from -8 to 0; lower is more uniform (arXiv
            2005.10242).

    Raises:
        InputError: there are fewer than two vectors, or they are not finite.
    """
    vectors = _normalised(vectors)
    count, size = vectors.shape
    if count < 2:
        raise InputError(f"expected at least 2 vectors, got {count}")
    products = vectors @ vectors.T
    own = np.diagonal(products)
    pairs = np.triu_indices(count, 1)
    distances = np.maximum(own[:, None] + own[None] - 2 * products, 0)[pairs]
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    # Rounding to float32 leaves equal vectors with small singular values.
    singular = singular[singular > 1e-6 * count**0.5]
    shares = singular / singular.sum() if len(singular) else singular
    return {
        "spread": float(vectors.std(0).mean() * size**0.5),
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0,
        "mean_cosine": float(products[pairs].mean()),
        "uniformity": float(np.log(np.exp(-2 * distances).mean())),
    }


def alignment(vectors: np.ndarray, positives: np.ndarray) -> float:
    """Return the mean squared distance of normalised vectors from their positives, from 0 to 4 (arXiv 2005.10242).

    Args:
        vectors, positives: [texts, size], row by row two views of a text, or two texts that mean the same.

    Raises:
        InputError: the shapes differ, or the vectors are not finite.
    """
    if vectors.shape != positives.shape:
        raise InputError(f"expected as many positives as vectors, got {positives.shape} for {vectors.shape}")
    return float(np.square(_normalised(vectors) - _normalised(positives)).sum(1).mean())


def _normalised(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(vectors).all():
        raise InputError("expected finite vectors, got NaN or infinity: the training has diverged")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: np.ndarray = vectors / np.where(lengths == 0, 1.0, lengths)
    return normalised


__all__ = ["alignment", "vector_figures"]
