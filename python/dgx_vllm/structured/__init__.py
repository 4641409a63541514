"""Structured outputs: finds what XGrammar would ignore in a schema or a pattern.

vLLM calls `check` before it gives a request to XGrammar (patches/vllm/0005). A request that is refused here
goes to guidance. If guidance does not know it either, the client gets status 400 with the reason.
"""
