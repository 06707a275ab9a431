"""Build and extend the vocabularies of word-based models.

* `counting` counts characters and words of a corpus of any size, and reads the frequencies of jieba's dictionary
* `building` makes a new vocabulary from counts
* `extending` turns a character vocabulary into a word vocabulary, as for the original WoBERT
* `user_dictionary` reads a file of user words
* `adding` adds words to a loaded model and its tokenizer
* `means` computes the embedding of a new word, the mean of those of its word pieces
* `pairing` warns if a tokenizer does not belong to a model
"""
