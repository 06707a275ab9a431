"""One of two processes that train together: runs of the example scripts, one after the other."""

import json

from examples import finetune_matcher, pretrain_mlm, pretrain_tta
from kexue_hf.trainers.checked_options import leave_process_group

SCRIPTS = {"finetune_matcher": finetune_matcher, "pretrain_mlm": pretrain_mlm, "pretrain_tta": pretrain_tta}


def main(runs: str) -> None:
    """Run the scripts with their arguments, given as JSON: [["pretrain_mlm", ["--output_dir=a", ...]], ...]."""
    for script, arguments in json.loads(runs):
        SCRIPTS[script].main(arguments)
    leave_process_group()
