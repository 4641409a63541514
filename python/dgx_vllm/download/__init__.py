"""`dgx-vllm download`: a model into the Hugging Face cache before a server needs it."""
