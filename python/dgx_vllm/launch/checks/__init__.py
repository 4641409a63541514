"""What only the machine can tell, asked before vLLM starts."""
