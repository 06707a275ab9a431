"""WoNEZHA (2020-09, 33,586 words).

    python conversion/wonezha.py chinese_wonezha_L-12_H-768_A-12 wonezha-base

Huawei's NEZHA, further trained with a word vocabulary as WoBERT was. Its relative positions are functions of the
distance, so the length is unlimited (https://github.com/ZhuiyiTechnology/WoBERT).
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
