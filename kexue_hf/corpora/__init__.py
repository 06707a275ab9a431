"""Turn text files into the rows that a model trains on.

`reading` (files, folders, Hub) -> `packing` (sentences into rows) -> `row_order` (rows into batches) -> collators of
`trainers`. `text_files` and `file_names` read and find files; `matching_rows` reads labelled pairs of texts.
"""
