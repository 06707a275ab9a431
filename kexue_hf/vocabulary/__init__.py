"""Build and extend the vocabularies of word-based models.

* `corpus_counts` counts characters and words of a corpus of any size, and reads the frequencies of jieba's dictionary
* `vocabulary_files` makes a new vocabulary from counts and writes it to `vocab.txt`
* `word_selection` turns a character vocabulary into a word vocabulary, as for the original WoBERT
* `user_dictionary` reads a file of user words
* `added_words` adds words to a loaded model and its tokenizer
* `group_means` computes the embedding of a new word, the mean of those of its word pieces
* `tokenizer_check` warns if a tokenizer does not belong to a model
"""
