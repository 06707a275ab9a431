"""WoBERT+ (2021-03, 50,000 words):

    python conversion/wobert_plus.py chinese_wobert_plus_L-12_H-768_A-12 wobert-plus-base

As WoBERT, with a vocabulary built anew, trained on for longer: 250k steps of batch 256, learning rate 1e-5, where
WoBERT's 1M steps of 16 come to about 60k of that batch (https://github.com/ZhuiyiTechnology/WoBERT).
"""

from recipe import Recipe

RECIPE = Recipe(
    name="chinese_wobert_plus_L-12_H-768_A-12",
    source="https://github.com/ZhuiyiTechnology/WoBERT",
    license="unknown",
    family="wobert",
    vocab_size=50000,
)

if __name__ == "__main__":
    RECIPE.main()
