"""A process leaves its group, and does not hang; without a group, nothing happens."""

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

# A wrapped model keeps the group until it is freed. Without a pause, this hangs after 14 to 66 rounds.
HANGS = """
import faulthandler
import torch
from torch import distributed, nn
from kexue_hf.trainers import training_script
faulthandler.dump_traceback_later(60, exit=True)
training_script._PAUSE = 0.005
for number in range(200):
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    sent, found = torch.ones(3), [torch.zeros(3)]
    model(torch.ones(1, 2)).sum().backward()
    distributed.all_gather(found, sent)
    found.clear()
    del sent
    training_script.leave_process_group()
    del model
print(number)
"""


def test_a_process_leaves_its_group() -> None:
    assert run_forked(TRANSFORMERS, CODE).splitlines()[-1] == "False"


def test_a_wrapped_model_that_is_freed_last_does_not_hang() -> None:
    assert run_forked(TRANSFORMERS, HANGS).splitlines()[-1] == "199"
