"""Original checkpoints to HuggingFace folders and back, without TensorFlow.

* the files of others: `tf_checkpoint_reader`, `tf_checkpoint_writer` (on `sorted_table`, `bundle_messages`, `snappy`,
  `varint`, `checksum`) and `keras_h5_reader`, `keras_h5_writer`
* ours: `safetensors_reader`, `safetensors_writer`; `weight_source` is what every reader offers
* which tensor is which: `families` picks a `models/*/weight_map_*`, `weight_table` applies it strictly, `transfer`
  moves the values, `casting` and `element_types` know their types, `constants` computes what only one side stores
* a folder: `source_files`, `source_config` and `saved_vocabulary` read what lies beside a checkpoint; `staged_folder`,
  `python_files` and `model_card` write what lies beside the weights; `saved_folder` opens it again
* the three commands: `convert`, `export`, `verify`

A new family adds a weight map beside its model and its line in `families.FAMILIES`.
"""
