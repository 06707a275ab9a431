"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
Dtype = Annotated[str, typer.Option(help="float32, float16 or bfloat16; auto keeps the type in the file.")]
BatchTokens = Annotated[int, typer.Option(help="Most tokens in a batch; fewer need less memory.")]
Method = Annotated[
    str, typer.Option(help="one_pass (T-TA only), masking (one pass per token), or auto: one pass where possible.")
]
TextColumn = Annotated[
    str | None, typer.Option(help="Column of the text, in all formats but .txt.", show_default="text")
]
ResultFile = Annotated[Path | None, typer.Option(help="JSON lines file to write, NAME.jsonl.", show_default="stdout")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT once the new one is complete.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue what the same command left when it was killed or failed; OUTPUT is the same as from one run.",
    ),
]
NoProgress = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="With --evaluate (correct: or --calibrate): print the figures as JSON.")
]

# Of the commands that make a folder.
Family = Annotated[str, typer.Option(help="Family of the checkpoint; auto recognises it by its tensors.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Its configuration, if it is not beside the checkpoint.", show_default=False),
]
VocabFile = Annotated[
    Path | None,
    typer.Option("--vocab", help="Its vocabulary, if it is not beside the checkpoint.", show_default=False),
]
TaskNames = Annotated[
    str | None, typer.Option(help="Names of a matcher's tasks, separated by commas.", show_default=False)
]
Head = Annotated[
    str,
    typer.Option(
        help="Kind of a classifier on the encoder: text, token or choice; none drops it; auto decides by its tensors."
    ),
]
KeepTokens = Annotated[
    Path | None,
    typer.Option(
        help="Ids that bert4keras got as keep_tokens, for weights of these tokens alone.", show_default=False
    ),
]
StoredDtype = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16.", show_default="as stored, bit for bit")
]
License = Annotated[str | None, typer.Option(help="License for the card, as the Hub spells it.", show_default=False)]
Language = Annotated[
    str | None, typer.Option(help="Language for the card, as the Hub spells it.", show_default="by the vocabulary")
]
OverwriteFolder = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model folder at OUTPUT once the new one is complete.")
]
Silent = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
