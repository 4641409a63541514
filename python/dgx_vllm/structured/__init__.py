"""Structured outputs: what XGrammar would ignore of a schema or a pattern, so that no answer breaks it.

vLLM asks `check` before it gives a request to XGrammar (patches/vllm/0005). What is refused here goes to
guidance, which refuses what it does not know; what both refuse is the client's fault, 400 with the reason.
"""
