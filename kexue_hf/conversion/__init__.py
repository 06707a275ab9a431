"""Convert original checkpoints to HuggingFace folders and back, without TensorFlow.

* commands: `convert`, `export`, `verify`, `extend`
* input: `open_source` opens any source; it reads with `source` (files, configuration, vocabulary), `saved_folder`
  (transformers folders), `kept_tokens` (vocabulary selections) and `keras_head` (the classifier of a Keras file)
* tensor names: `weight_map` declares the contents of a weight map, `families` picks the one of a checkpoint,
  `weight_plan` applies it strictly, `derived_weights` computes tensors that only one format stores, and
  `missing_weights` lists the weights that a folder lacks
* output: `staged_folder` publishes a folder in one step; `model_card`, `python_files` and `exported_vocabulary` make
  the files beside the weights; `word_choice` picks the words that `extend` adds
* `formats`: TensorFlow, Keras, PyTorch and safetensors files, read and written tensor by tensor

A new family needs a weight map (`models/<type>/weight_map_<type>.py`) and a row in `families.FAMILIES`.
"""
