"""Memory of the device that layers are loaded on."""

import torch
from vllm.utils.mem_utils import MemorySnapshot

from dgx_vllm.host import meminfo


def free(device: torch.device) -> int:
    """Bytes that can be had on a device, what PyTorch holds in reserve among them."""
    if device.type == "cpu":
        return meminfo.available()
    snapshot = MemorySnapshot(device=device)
    return snapshot.free_memory + snapshot.torch_memory - snapshot.torch_allocated
