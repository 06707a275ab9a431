"""RoFormer over words (2021, 50,000 words; base, and small: L-6_H-384_A-6):

    python conversion/roformer.py chinese_roformer_L-12_H-768_A-12 roformer-base

A BERT with rotary positions (https://kexue.fm/archives/8265), trained on over WoBERT+'s words. The result opens with
transformers' own RoFormer classes, and with our tokenizer of words.
"""

from recipe import Recipe

RECIPE = Recipe(
    name="chinese_roformer_L-12_H-768_A-12",
    source="https://github.com/ZhuiyiTechnology/roformer",
    license="unknown",
    family="roformer",
    vocab_size=50000,
)

if __name__ == "__main__":
    RECIPE.main()
