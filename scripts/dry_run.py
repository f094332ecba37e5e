#!/usr/bin/env python3
"""Check that a model fits a number of GPUs, without weights and without a GPU.

    scripts/dry_run.py MODEL --gpus 64

MODEL is a directory with a `config.json`, or that file. The model is built on torch's meta device
and sharded by FSDP2 as `configs/accelerate/fsdp2.yaml` asks for, on one rank of a simulated world.
The result is one line of JSON: all parameters, those of the largest rank, and the bytes of float32
weights, gradients and AdamW's two moments on it. Activations come on top.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.commands.config.config_args import load_config_from_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = Path(__file__).parents[1] / "python" / "zephyr_fast" / "configs" / "accelerate"

STATES = 4
"""Weights, gradients and two moments."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--gpus", type=int, default=8)
    given = parser.parse_args()
    print(json.dumps(dry_run(given.model, given.gpus)))


def dry_run(model: str, gpus: int) -> dict[str, Any]:
    """Return the sizes of the model and of the part of rank 0, which is the largest."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    parameters = sum(one.numel() for one in built.parameters())
    blocks = shard(built, gpus)
    local = sum(one.to_local().numel() for one in built.parameters())
    return {
        "parameters": parameters,
        "blocks": blocks,
        "gpus": gpus,
        "parameters_per_gpu": local,
        "state_bytes": local * 4 * STATES,
    }


def shard(model: Any, gpus: int) -> int:
    """Shard the model in blocks, as accelerate wraps it, and return their number."""
    asked = load_config_from_file(str(CONFIGS / "fsdp2.yaml")).fsdp_config
    assert asked["fsdp_version"] == 2
    assert asked["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=gpus)
    mesh = init_device_mesh("cpu", (gpus,))
    blocks = [one for one in model.modules() if type(one).__name__ in model._no_split_modules]
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=asked["fsdp_reshard_after_forward"])
    fully_shard(model, mesh=mesh)
    return len(blocks)


if __name__ == "__main__":
    main()
