"""The demo model: a small Qwen3-Next that ships with the package, and what it answers.

Only the standard library is imported here, so its path and its texts are available without torch.
"""

from dgx_vllm.demo.continuations import Chat, Completion, chats, completions
from dgx_vllm.demo.paths import CHECKPOINT

__all__ = ["CHECKPOINT", "Chat", "Completion", "chats", "completions"]
