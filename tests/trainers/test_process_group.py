"""A process leaves its group; without a group, nothing happens."""

from tests.fresh_process import TRANSFORMERS, run_forked

CODE = """
import torch.distributed as distributed
from kexue_hf.trainers.training_script import leave_process_group
leave_process_group()
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
assert distributed.is_initialized()
leave_process_group()
print(distributed.is_initialized())
"""


def test_a_process_leaves_its_group() -> None:
    assert run_forked(TRANSFORMERS, CODE).splitlines()[-1] == "False"
