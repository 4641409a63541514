"""The subcommands, one module a group of `dgx-vllm --help`. What they do is imported when they are called."""
