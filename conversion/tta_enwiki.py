"""T-TA, English Wikipedia (2020-04, 29,530 word pieces, 3 layers of 512):

    python conversion/tta_enwiki.py tta-layer-3-enwiki-lower-sub-32k tta-enwiki

The official model, trained as a language autoencoder on single sentences of up to 126 word pieces between [SOS] and
[EOS] (https://github.com/joongbo/tta, arXiv 2004.08097). It unpacks to `model.ckpt.*`, and a configuration and a
vocabulary that are called by their settings (`config.layer-3.vocab-lower.sub-32k.json`, `vocab-lower.sub-32k.txt`);
both are found.
"""

from recipe import Recipe

RECIPE = Recipe(
    name="tta-layer-3-enwiki-lower-sub-32k",
    source="https://github.com/joongbo/tta",
    # Its LICENSE is MIT's, its README says Apache 2.0, of the models too.
    license="other",
    family="tta",
    vocab_size=29530,
    language="en",
)

if __name__ == "__main__":
    RECIPE.main()
