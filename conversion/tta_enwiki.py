"""T-TA, English Wikipedia (2020-04, 29,530 word pieces, 3 layers, hidden size 512).

    python conversion/tta_enwiki.py tta-layer-3-enwiki-lower-sub-32k tta-enwiki

The official model, trained as a language autoencoder on single sentences of up to 126 word pieces between [SOS] and
[EOS] (https://github.com/joongbo/tta, arXiv 2004.08097). It unpacks to `model.ckpt.*`, a configuration and a
vocabulary named after their settings (`config.layer-3.vocab-lower.sub-32k.json`, `vocab-lower.sub-32k.txt`). The
recipe finds all of them.
"""

from recipe import Recipe

RECIPE = Recipe(
    name="tta-layer-3-enwiki-lower-sub-32k",
    source="https://github.com/joongbo/tta",
    # The LICENSE file is MIT, but the README says Apache 2.0, also for the models.
    license="other",
    family="tta",
    vocab_size=29530,
    language="en",
)

if __name__ == "__main__":
    RECIPE.main()
