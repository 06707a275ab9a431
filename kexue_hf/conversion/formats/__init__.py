"""Read and write checkpoint formats tensor by tensor.

`weight_source` is the interface of every reader, `transfer` copies values between formats. `tensorflow` (on
`tensorflow_index`), `keras` and `safetensors` read and write; `pytorch` only reads.
"""
