# The flake's outputs for one system: pins -> paths -> base -> environment -> {serve, checks}.
{ nixpkgs, system }:
let
  platforms = import ./platforms.nix;
  build = platforms.${system};
  fetch = import ./fetch.nix { pkgs = nixpkgs.legacyPackages.${system}; };
  base = import ./base { inherit build fetch; host = build; };
  python = import ./python { inherit base fetch; host = build; };
  vllm = import ./vllm.nix { inherit python fetch; host = build; };
in
{
  packages = {
    base = base.sysroot;
    inherit (base) cc patchelf;
    env = python.environment "vllm" vllm.wheels;
  };
  apps = { };
  checks = { };
  devShells = { };
}
