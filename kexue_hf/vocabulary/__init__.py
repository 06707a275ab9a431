"""Which words a word-based model knows: counting them, choosing them, and giving a new one its first vector.

* `counting`: how often characters and words occur, in a corpus of any size or in the text jieba was made from
* `building`: a vocabulary from nothing but counts
* `extending`: a character vocabulary made one of words, as the original WoBERT's was
* `user_dictionary`: a file of one's own words
* `adding`: words for a model and a tokenizer that are in use
* `means`: a new word's row is the mean of its pieces' rows
"""
