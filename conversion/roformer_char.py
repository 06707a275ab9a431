"""Character-based RoFormer (2021, 12,000 characters; base, and small: L-6_H-384_A-6), and RoFormer-Sim.

    python conversion/roformer_char.py chinese_roformer-char_L-12_H-768_A-12 roformer-char-base

The result loads with transformers alone. RoFormer-Sim's pooler is dropped, because transformers' RoFormer has none
(https://github.com/ZhuiyiTechnology/roformer).
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
