"""Memory of the device that layers are loaded on."""

import torch
from vllm.utils.mem_utils import MemorySnapshot

from dgx_vllm.host import meminfo


def free(device: torch.device) -> int:
    """Bytes that can be had on a device, what PyTorch holds in reserve among them."""
    if device.type == "cpu":
        return meminfo.available()
    found = MemorySnapshot(device=device)
    return found.free_memory + found.torch_memory - found.torch_allocated
