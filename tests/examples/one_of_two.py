"""One of two processes that train together: runs of the example scripts, one after the other."""

import json

from examples import finetune_matcher, pretrain_mlm, pretrain_tta, train_sentence_vectors, train_xiangqi
from kexue_hf.trainers.training_script import leave_process_group
from tests import fsdp_on_cpus

SCRIPTS = {
    "finetune_matcher": finetune_matcher,
    "pretrain_mlm": pretrain_mlm,
    "pretrain_tta": pretrain_tta,
    "train_sentence_vectors": train_sentence_vectors,
    "train_xiangqi": train_xiangqi,
}


def main(runs: str) -> None:
    """Run the scripts with their arguments, given as JSON: [["pretrain_mlm", ["--output_dir=a", ...]], ...]."""
    fsdp_on_cpus.enable()
    for script, arguments in json.loads(runs):
        SCRIPTS[script].main(arguments)
    leave_process_group()
