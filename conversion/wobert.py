"""WoBERT (2020-09, 33,586 words):

    python conversion/wobert.py chinese_wobert_L-12_H-768_A-12 wobert-base

RoBERTa-wwm-ext, trained on with words as units: 1M steps of MLM, length 512 (https://kexue.fm/archives/7758).
"""

from recipe import Recipe

RECIPE = Recipe(
    name="chinese_wobert_L-12_H-768_A-12",
    source="https://github.com/ZhuiyiTechnology/WoBERT",
    license="unknown",
    family="wobert",
    vocab_size=33586,
)

if __name__ == "__main__":
    RECIPE.main()
