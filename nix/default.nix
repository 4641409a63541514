# The flake's outputs for one system: pins -> paths -> base -> environment -> {serve, checks}.
{ nixpkgs, system }:
let
  platforms = import ./platforms.nix;
  build = platforms.${system};
  host = build;
  fetch = import ./fetch.nix { pkgs = nixpkgs.legacyPackages.${system}; };
  base = import ./base { inherit build host fetch; };
  python = import ./python { inherit build host base fetch; };
  vllm = import ./vllm.nix { inherit host python fetch; };
  package = import ./package.nix { inherit python; };

  environment = python.environment {
    name = "vllm-environment";
    wheels = vllm.wheels ++ [ package ];
    inherit (vllm) overlays;
  };
  launcher = import ./launcher.nix { inherit host base environment; };

  described = description: package: package // { meta = { inherit description; }; };
in
{
  packages = {
    default = described "The dgx-vllm command: serve a model, list profiles" launcher;
    environment = described "Python 3.11 with vLLM ${vllm.version} and everything it needs" environment;
    base = described "Debian 12, run from the store: Python, GCC and the system libraries that wheels expect" base.sysroot;
    cc = described "GCC 12 whose output runs on the base" base.cc;
  };

  apps = import ./apps.nix { inherit base python fetch host launcher; };
  checks = import ./checks.nix { inherit build base python fetch host vllm package launcher; };
  devShells = { };
}
