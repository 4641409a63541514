# The flake's packages -> a platform, as nixpkgs names it in stdenv -> the command that runs there.
packages:
{ hostPlatform, buildPlatform ? hostPlatform, ... }:
let
  build = buildPlatform.system;
  host = hostPlatform.system;
  known = builtins.concatStringsSep " and " (builtins.attrNames packages);
in
# What an x86_64 machine assembles for a GB10 has the contents of the GB10's own, and needs no Arm machine to build it.
if build == "x86_64-linux" && host == "aarch64-linux" then packages.${build}.gb10-default
else (packages.${host} or (throw "dgx-vllm: there is no package for ${host}; there are packages for ${known}")).default
