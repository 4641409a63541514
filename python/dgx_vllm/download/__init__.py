"""`dgx-vllm download`: fetches a model into the Hugging Face cache before a server needs it."""
