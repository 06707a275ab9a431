"""Matcher of the Sohu 2021 baseline (2021, 50,000 words, six tasks).

    python conversion/sohu_matcher.py FOLDER sohu-matcher

A RoFormer whose layer norms are conditioned on the task, one of six standards for comparing two texts
(https://kexue.fm/archives/8337). No weights were released. The baseline's script saves its averaged weights (EMA) as
Keras weights, `best_model.weights`, after each epoch that improves the score. Put `bert_config.json` and `vocab.txt`
of the RoFormer that the script started from beside that file.
"""

from recipe import Recipe

RECIPE = Recipe(
    name="sohu2021-baseline",
    source="https://github.com/bojone/sohu2021-baseline",
    license="unknown",
    family="cln_matcher",
    vocab_size=50000,
    task_names=(
        "短短匹配A类",
        "短短匹配B类",
        "短长匹配A类",
        "短长匹配B类",
        "长长匹配A类",
        "长长匹配B类",
    ),
)

if __name__ == "__main__":
    RECIPE.main()
