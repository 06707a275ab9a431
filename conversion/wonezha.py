"""WoNEZHA (2020-09, 33,586 words):

    python conversion/wonezha.py chinese_wonezha_L-12_H-768_A-12 wonezha-base

Huawei's NEZHA, trained on with words as units as WoBERT was: its network has relative positions, functions of the
distance, and so no limit of length (https://github.com/ZhuiyiTechnology/WoBERT).
"""

from recipe import Recipe

RECIPE = Recipe(
    name="chinese_wonezha_L-12_H-768_A-12",
    source="https://github.com/ZhuiyiTechnology/WoBERT",
    license="unknown",
    family="nezha",
    vocab_size=33586,
)

if __name__ == "__main__":
    RECIPE.main()
