"""Read and write files safely: check what is opened, and never leave a partial result.

* `regular_file` opens regular files of limited size; `hub_names` resolves model names
* `staging` makes output appear complete or not at all; on it, `whole_file` writes one file and `resumable_results`
  one result per row
* `card_seal` is the checksum that tells whether anybody has edited a model card; `utf8_text` makes any name writable
"""
