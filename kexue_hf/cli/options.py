"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a CUDA GPU if there is one.")]
Dtype = Annotated[
    str,
    typer.Option(help="float32, float16 or bfloat16; auto: the type in the file, but float32 for float16 on a CPU."),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(help="Maximum tokens per batch; lower it to save memory.", show_default="1024 on a CPU, else 8192"),
]
Method = Annotated[
    str, typer.Option(help="one_pass (T-TA only), masking (one pass per token), or auto: one_pass if possible.")
]
TextColumn = Annotated[
    str | None, typer.Option(help="Column of the text, in all formats but .txt.", show_default="text")
]
ResultFile = Annotated[Path | None, typer.Option(help="JSON lines file to write, NAME.jsonl.", show_default="stdout")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT once the new file is complete.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run of the same command. OUTPUT is identical to that of a single run.",
    ),
]
NoProgress = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")]

# Options of the commands that write a model folder.
Family = Annotated[str, typer.Option(help="Family of the checkpoint; auto recognises it by its tensors.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file, if it is not beside the checkpoint.", show_default=False),
]
VocabFile = Annotated[
    Path | None,
    typer.Option("--vocab", help="Vocabulary file, if it is not beside the checkpoint.", show_default=False),
]
TaskNames = Annotated[
    str | None, typer.Option(help="Names of a matcher's tasks, comma-separated.", show_default=False)
]
Head = Annotated[
    str,
    typer.Option(
        help="Kind of classifier on the encoder: text, token or choice. none drops it; auto decides by its tensors."
    ),
]
KeepTokens = Annotated[
    Path | None,
    typer.Option(
        help="File with the keep_tokens ids given to bert4keras, if the weights cover only these tokens.",
        show_default=False,
    ),
]
StoredDtype = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16.", show_default="as stored, bit for bit")
]
License = Annotated[str | None, typer.Option(help="The Hub's license id, for the model card.", show_default=False)]
Language = Annotated[
    str | None,
    typer.Option(help="The Hub's language code, for the model card.", show_default="guessed from the vocabulary"),
]
OverwriteFolder = Annotated[
    bool, typer.Option("--overwrite", help="Replace the model folder OUTPUT once the new one is complete.")
]
Silent = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
