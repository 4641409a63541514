# vLLM's closure for a platform: the CUDA build is the product, on aarch64; the CPU build is for development, on x86_64.
{ host, python, fetch }:
let
  group = if host.system == "aarch64-linux" then "cuda" else "cpu";
in
{
  wheels = map (wheel: python.unpackWheel { inherit (wheel) name version src; }) (fetch.wheels group host.system);
}
