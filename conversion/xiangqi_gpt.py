"""The Chinese-chess model of bert4keras' example (2020-11, 20 characters):

    python conversion/xiangqi_gpt.py FOLDER xiangqi-gpt

RoBERTa-wwm-ext with a causal mask, trained on games as strings of ICCS moves (https://kexue.fm/archives/7877). The
example's script saves `best_model.weights` (Keras weights) after every epoch that is the best so far. A conversion
script of bert4torch (`convert_roberta_chess.py`) reads the author's trained weights, but names no address, and we know
of none. Put beside the weights the `bert_config.json` and `vocab.txt` of chinese_roberta_wwm_ext_L-12_H-768_A-12, with
its 21,128 tokens: the model has embeddings of 20 of them.
"""

from recipe import Recipe

RECIPE = Recipe(
    name="task_language_model_chinese_chess",
    source="https://github.com/bojone/bert4keras/blob/master/examples/task_language_model_chinese_chess.py",
    license="unknown",
    family="xiangqi_gpt",
    vocab_size=21128,
)

if __name__ == "__main__":
    RECIPE.main()
