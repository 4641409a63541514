# The flags of vLLM that people set, as options with types; every other flag is free. `json`: the type of its values.
{ lib, json }:
let
  inherit (lib) mkOption types;
  words = import ./words.nix;

  flag = type: example: description: mkOption {
    type = types.nullOr type;
    default = null;
    inherit example description;
  };
  size = types.either types.ints.positive (types.strMatching words.size // { description = "a size such as 32k"; });
in
{
  max-model-len = flag (types.either (types.enum [ "auto" (-1) ]) size) 32768
    "The longest context in tokens, prompt and answer together; auto for the longest that fits.";
  max-num-seqs = flag types.ints.positive 8 "Requests that are decoded at once.";
  max-num-batched-tokens = flag size 8192 "Tokens that one step processes at most.";
  gpu-memory-utilization = flag (types.numbers.between 0 1) (lib.literalExpression "0.8")
    "The share of the memory that vLLM takes; left out, the launcher works it out.";
  kv-cache-dtype = flag types.singleLineStr "fp8" "The type of the KV cache's values.";
  served-model-name = flag (types.either types.singleLineStr (types.listOf types.singleLineStr)) "qwen"
    "The name, or names, that clients ask for.";
  tokenizer = flag types.singleLineStr "owner/name" "The tokenizer, where it is not the model's own.";
  trust-remote-code = flag types.bool true "Whether Python code from the model's repository is run.";
  chat-template = flag (types.either types.path types.str) "/etc/dgx-vllm/template.jinja"
    "The chat template: a file, or the template itself.";
  reasoning-parser = flag types.singleLineStr "qwen3" "What takes the reasoning out of an answer.";
  enable-auto-tool-choice = flag types.bool true
    "Whether the model may choose a tool by itself; it needs a tool-call-parser.";
  tool-call-parser = flag types.singleLineStr "hermes" "What reads the model's calls of tools.";
  enable-prefix-caching = flag types.bool false "Whether what prompts have in common is computed once.";
  enable-lora = flag types.bool true "Whether LoRA adapters are loaded.";
  lora-modules = flag (types.listOf types.str) [ "sql=/srv/adapters/sql" ]
    "LoRA adapters, each as name=path or as JSON text.";
  limit-mm-per-prompt = flag (types.attrsOf json) { image = 2; video = 0; }
    "How many images, videos and sounds a prompt may hold.";
  speculative-config = flag (types.either (types.attrsOf json) types.str)
    { method = "mtp"; num_speculative_tokens = 2; }
    "How tokens are drafted; `mtp` of the instance is shorter.";
}
