"""transformers' Trainer with an order of the data that neither the number of devices nor interruptions change.

The batches come from `kexue_hf.corpora.row_order`, which forms global batches first and then divides them among the
processes. So N processes, accumulated batches, and a run that was killed and resumed give the losses of one process in
one go, up to the order in which floating-point numbers are added. With dropout, whose random numbers belong to the
process, this holds for the resumed run only. A stream is also bucketed by length, and skips trained rows without
building their batches.

`--fsdp` uses torch's FSDP2. accelerate (checked: 1.15 with torch 2.13) puts the embeddings and the last layer of the
head into separate groups, but a masked-word head shares its matrix with the embeddings, and torch requires shared
parameters to be in one group. So accelerate's FSDP fails for every BERT, transformers' included. Here each layer is a
group, and embeddings and head together are the outermost one. accelerate leaves a sharded model alone.
"""

import os
import zlib
from typing import Any

import torch
from accelerate.state import DistributedType
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.data import DataLoader

from kexue_hf.corpora.row_order import Batches, Share, Stream, Table
from kexue_hf.errors import InputError
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer


def shard(model: nn.Module, plugin: Any, device: torch.device) -> None:
    """Shard `model` over all processes, in place.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`. Its `reshard_after_forward`, `cpu_offload` and
            `mixed_precision_policy` apply; its wrapping policy does not, because the groups are the model's layers.
        device: the device of this process.

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
    plugin.auto_wrap_policy = None  # it would look for classes that fully_shard has renamed


class TableLoader(DataLoader):
    """A DataLoader that passes the epoch on to its batch sampler; Trainer calls `set_epoch`."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)


class OrderedTrainer(AtomicCheckpointTrainer):
    """An [`AtomicCheckpointTrainer`] for rows of tokens; arguments as there, except:

    Args:
        train_dataset: a [`Table`] or a [`Stream`]. `args.train_sampling_strategy` sets the order of a table: random,
            sequential or group_by_length, which needs the column `args.length_column_name`.
        data_collator: preferably one that draws masks from `row` and `epoch`, as [`WordMaskingCollator`] does.
        facts: what the rows depend on in addition to the arguments, the dataset and the collator's seed and
            probabilities.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.args.remove_unused_columns = False  # collators need word_ids, row and epoch, which no model takes
        self.facts = {**self._facts(), **self.facts}

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # accelerate (checked: 1.15, state.py:AcceleratorState) ignores FSDP on CPUs and silently trains with DDP.
        if self.args.fsdp_plugin_args is not None and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            raise InputError("expected GPUs for --fsdp, got CPUs, where accelerate ignores it: leave --fsdp out")
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.activation_checkpointing:
            raise InputError(
                "activation_checkpointing in --fsdp_config is not supported here: use --gradient_checkpointing"
            )

    def create_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        # Before the optimizer is created, so that it holds the sharded weights.
        if self.is_fsdp_enabled and not isinstance(self.model, FSDPModule):
            shard(self.model, self.accelerator.state.fsdp_plugin, self.args.device)
        return super().create_optimizer(*arguments, **options)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # fully_shard replaces the model's class, and transformers copies the file of the class into the folder.
        model: Any = self.accelerator.unwrap_model(self.model)
        sharded = type(model)
        model.__class__ = next(base for base in sharded.__mro__ if not issubclass(base, FSDPModule))
        try:
            super()._save(output_dir, state_dict)
        finally:
            model.__class__ = sharded

    def get_train_dataloader(self) -> DataLoader:
        loading = {
            "collate_fn": self.data_collator,
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory,
            "persistent_workers": self.args.dataloader_persistent_workers,
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            # Starting a loader draws a random number, which must not come from the generator of dropout.
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
            # Trainer would build every skipped batch.
            self.train_dataset.start = steps * self.args.gradient_accumulation_steps
            self.args.ignore_data_skip = True

    def _facts(self) -> dict[str, Any]:
        """Return what the order and the masks of the rows depend on."""
        facts: dict[str, Any] = {
            "rows of a step": share_of(self.args).rows,
            "seed": seed_of(self.args),
            "order": str(self.args.train_sampling_strategy),
            "kind of data": type(self.train_dataset).__name__,
        }
        # Attributes of our collators; others may lack them.
        for fact, name in (("seed", "seed"), ("probability", "probability"), ("hidden", "mask_fraction")):
            if hasattr(self.data_collator, name):
                facts[f"mask {fact}"] = getattr(self.data_collator, name)
        if isinstance(self.train_dataset, Table):
            facts["rows"] = len(self.train_dataset)
            if self.args.length_column_name in self.train_dataset.data.column_names:
                # Another corpus, or another way of cutting it, has other lengths.
                lengths = self.train_dataset.column(self.args.length_column_name)
                facts["checksum of lengths"] = zlib.crc32(lengths.astype("<i8").tobytes())
        elif isinstance(self.train_dataset, Stream):
            facts["seed"] = self.train_dataset.seed
            facts["shuffled rows"] = self.train_dataset.batches * self.train_dataset.share.rows
        return facts


def share_of(args: Any) -> Share:
    """Return this process' share of each step, for transformers' TrainingArguments."""
    # nn.DataParallel splits the batches of one process over several GPUs.
    batch_size = args.per_device_train_batch_size * max(1, args.n_gpu)
    return Share(batch_size, args.gradient_accumulation_steps, args.process_index, args.world_size)


def seed_of(args: Any) -> int:
    """Return the seed of the order of rows, for transformers' TrainingArguments."""
    return int(args.seed if args.data_seed is None else args.data_seed)


def missing_processes_requested() -> bool:
    """Return whether `accelerate launch --cpu --num_processes N` started the script, which starts only one process.

    accelerate (checked: 1.15, commands/launch.py:launch_command) leaves several processes on CPUs to MPI, and without
    `--mpirun_hostfile` silently starts one. `--multi_gpu` instead of `--cpu` starts N processes, on CPUs too.
    """
    set_by_launcher = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    started = any(name in os.environ for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"))
    return set_by_launcher and not started and not torch.distributed.is_initialized()


__all__ = ["OrderedTrainer", "missing_processes_requested", "seed_of", "shard", "share_of"]
