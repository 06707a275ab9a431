"""The matcher of the Sohu 2021 baseline (2021, 50,000 words, six tasks):

    python conversion/sohu_matcher.py FOLDER sohu-matcher

A RoFormer whose layer norms are told by which of six standards two texts are compared
(https://kexue.fm/archives/8337). No weights were released: the baseline's script saves `best_model.weights`, Keras
weights, after every epoch that is the best so far, with the averaged weights (EMA) in place of its own. Put the
RoFormer's `bert_config.json` and `vocab.txt` beside it, from which the script started.
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
