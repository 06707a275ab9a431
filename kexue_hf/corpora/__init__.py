"""From files of text to the rows that a model is trained on: reading, packing, and the one order of all rows.

`reading` (files, folders, Hub) -> `packing` (sentences into rows) -> `row_order` (which row is in which batch) -> the
collators of `trainers`.
"""
