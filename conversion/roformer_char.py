"""RoFormer over characters (2021, 12,000 of them; base, and small: L-6_H-384_A-6; RoFormer-Sim likewise):

    python conversion/roformer_char.py chinese_roformer-char_L-12_H-768_A-12 roformer-char-base

As RoFormer, with characters as units: nothing in the result is ours, it opens with transformers alone. RoFormer-Sim's
pooler has no place in transformers' RoFormer and is left behind (https://github.com/ZhuiyiTechnology/roformer).
"""

from recipe import Recipe

RECIPE = Recipe(
    name="chinese_roformer-char_L-12_H-768_A-12",
    source="https://github.com/ZhuiyiTechnology/roformer",
    license="unknown",
    family="roformer",
    vocab_size=12000,
)

if __name__ == "__main__":
    RECIPE.main()
