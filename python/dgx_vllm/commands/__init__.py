"""The subcommands: one module per group of `dgx-vllm --help`. Each imports its work when it is called."""
