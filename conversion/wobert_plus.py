"""WoBERT+ (2021-03, 50,000 words).

    python conversion/wobert_plus.py chinese_wobert_plus_L-12_H-768_A-12 wobert-plus-base

WoBERT with a new vocabulary and longer training: 250k steps with batch size 256 and learning rate 1e-5. WoBERT's 1M
steps with batch size 16 equal about 60k such steps (https://github.com/ZhuiyiTechnology/WoBERT).
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
