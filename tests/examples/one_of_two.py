"""One of two processes that train together without a launcher; runs several scripts in turn.

RANK=0 ... python -m tests.examples.one_of_two '[["pretrain_mlm", ["--output_dir=a", ...]], ...]'
"""

import json
import sys

from examples import finetune_matcher, pretrain_mlm, pretrain_tta
from kexue_hf.trainers.training_script import leave_process_group
from tests import fsdp_on_cpus

SCRIPTS = {"finetune_matcher": finetune_matcher, "pretrain_mlm": pretrain_mlm, "pretrain_tta": pretrain_tta}

if __name__ == "__main__":
    fsdp_on_cpus.enable()
    for script, arguments in json.loads(sys.argv[1]):
        SCRIPTS[script].main(arguments)
    leave_process_group()
