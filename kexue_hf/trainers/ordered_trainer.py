"""transformers' Trainer, with the data in one order that neither devices nor interruptions change.

What differs from `Trainer`: the batches come from `kexue_hf.corpora.row_order`, whole global batches first, shared out
afterwards. So the losses of N processes, of accumulated batches, and of a run that was killed and resumed are those of
one process in one go (up to the order in which floating-point numbers are added; with dropout, whose random numbers
belong to the process, only the resumed run's are). A stream is bucketed by length too, and skips what it has trained
on without making batches of it.

torch's FSDP2 for a BERT with a masked-word head: weights, gradients and optimizer states divided among processes.

Why not leave it to accelerate (checked: 1.15 with torch 2.13): it gives the embeddings, and the last layer of the
head, groups of their own. A masked-word head shares its matrix with the embeddings and its bias with itself, and torch
wants what is shared in one group; so `--fsdp` ends in an error for every BERT, transformers' own included. Here each
layer is a group and the rest, embeddings and head together, is the outermost one. accelerate leaves a model alone that
is divided already.
"""

import os
import zlib
from typing import Any

import accelerate
import torch
from accelerate.state import DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.data import DataLoader

from kexue_hf.corpora.row_order import Batches, Share, Stream, Table
from kexue_hf.errors import InputError
from kexue_hf.trainers.whole_checkpoints import MarkingTrainer


def shard(model: nn.Module, plugin: Any, device: torch.device) -> None:
    """Divide `model` among all processes, in place.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`, whose `reshard_after_forward`, `cpu_offload` and
            `mixed_precision_policy` are used. Its wrapping policy is not: the groups are the model's layers.
        device: where this process computes.

    Raises:
        ValueError: the model has no `nn.ModuleList` of layers.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise ValueError(f"expected a model with a list of layers, got {type(model).__name__}")
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (torch.distributed.get_world_size(),)),
        "reshard_after_forward": plugin.reshard_after_forward,
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
    }
    if plugin.cpu_offload:
        options["offload_policy"] = plugin.cpu_offload
    for layer in lists[0]:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    plugin.auto_wrap_policy = None  # would look for classes that fully_shard has renamed


class TableLoader(DataLoader):
    """A loader that hands the epoch on to its batches (Trainer calls it so)."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)


class OrderedTrainer(MarkingTrainer):
    """[`MarkingTrainer`] for rows of tokens; arguments as there, but:

    Args:
        train_dataset: a [`Table`] or a [`Stream`]. A table's order is `args.train_sampling_strategy` (random,
            sequential, group_by_length); `length_column_name` must be one of its columns for the last.
        data_collator: best one that draws masks from `row` and `epoch`, as [`WordMaskingCollator`] does.
        facts: what else the rows depend on than the arguments, the dataset and the collator's seed and shares.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.args.remove_unused_columns = False  # collators want word_ids, row and epoch, which no model takes
        self.facts = {**self._facts(), **self.facts}

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # accelerate (checked: 1.15, state.py:AcceleratorState) turns FSDP on for every kind of device but CPUs, where
        # it trains with plain DDP and says nothing. torch's FSDP2 works there.
        state: Any = self.accelerator.state
        if self.args.fsdp_plugin_args is not None and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            if state.mixed_precision != "no":
                state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.is_fsdp_enabled = True
            if self.accelerator.distributed_type != DistributedType.FSDP:
                raise InputError(
                    "FSDP on CPUs needs an accelerate whose state can be changed, as 1.15 (the one that was tried): "
                    f"this is {accelerate.__version__}; install that one, or leave --fsdp out"
                )
        if self.is_fsdp_enabled and state.fsdp_plugin.activation_checkpointing:
            raise InputError(
                "activation_checkpointing in --fsdp_config is not supported here: use --gradient_checkpointing"
            )

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        # Before the optimizer exists, which holds the divided weights then.
        if self.is_fsdp_enabled and not isinstance(self.model, FSDPModule):
            shard(self.model, self.accelerator.state.fsdp_plugin, self.args.device)
        return super().create_optimizer(*arguments, **options)

    def get_train_dataloader(self) -> DataLoader:
        loading = {
            "collate_fn": self.data_collator,
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory,
            "persistent_workers": self.args.dataloader_persistent_workers,
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            # Starting a loader draws a number; not of those that dropout goes on with after a stop.
            "generator": torch.Generator(),
        }
        data = self.train_dataset
        if isinstance(data, Stream):
            return DataLoader(data, batch_size=None, **loading)
        by_length = self.args.train_sampling_strategy == "group_by_length"
        lengths = data.column(self.args.length_column_name) if by_length else None
        strategy = str(self.args.train_sampling_strategy)
        batches = Batches(len(data), share_of(self.args), seed_of(self.args), strategy, lengths)
        return TableLoader(data, batch_sampler=batches, **loading)

    def _skip(self, steps: int) -> None:
        if isinstance(self.train_dataset, Stream):
            # Trainer would draw and throw away every batch.
            self.train_dataset.start = steps * self.args.gradient_accumulation_steps
            self.args.ignore_data_skip = True

    def _facts(self) -> dict[str, Any]:
        """What the order and the masks of the rows depend on."""
        facts: dict[str, Any] = {
            "rows of a step": share_of(self.args).rows,
            "seed": seed_of(self.args),
            "order": str(self.args.train_sampling_strategy),
            "kind of data": type(self.train_dataset).__name__,
        }
        # Whatever the collator is; those of ours have these.
        for name in ("seed", "probability", "hidden"):
            if hasattr(self.data_collator, name):
                facts[f"mask {name}"] = getattr(self.data_collator, name)
        if isinstance(self.train_dataset, Table):
            facts["rows"] = len(self.train_dataset)
            if self.args.length_column_name in self.train_dataset.data.column_names:
                # Another corpus, or the same otherwise cut, has other lengths.
                lengths = self.train_dataset.column(self.args.length_column_name)
                facts["checksum of lengths"] = zlib.crc32(lengths.astype("<i8").tobytes())
        elif isinstance(self.train_dataset, Stream):
            facts["seed"] = self.train_dataset.seed
            facts["shuffled rows"] = self.train_dataset.batches * self.train_dataset.share.rows
        return facts


def share_of(args: Any) -> Share:
    """This process' part of each step, by transformers' TrainingArguments."""
    # nn.DataParallel divides one process' batches among several GPUs.
    batch_size = args.per_device_train_batch_size * max(1, args.n_gpu)
    return Share(batch_size, args.gradient_accumulation_steps, args.process_index, args.world_size)


def seed_of(args: Any) -> int:
    """The seed of the order of rows, by transformers' TrainingArguments."""
    return int(args.seed if args.data_seed is None else args.data_seed)


def missing_processes_requested() -> bool:
    """Was the script started by `accelerate launch --cpu --num_processes N`, which starts one process only?

    accelerate (checked: 1.15, commands/launch.py:launch_command) leaves several processes on CPUs to MPI, and without
    `--mpirun_hostfile` starts a single one without a word. `--multi_gpu` instead of `--cpu` starts them on CPUs too.
    """
    set_by_launcher = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    started = any(name in os.environ for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"))
    return set_by_launcher and not started and not torch.distributed.is_initialized()


__all__ = ["OrderedTrainer", "missing_processes_requested", "seed_of", "shard", "share_of"]
