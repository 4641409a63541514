# The module in the real module system, beside stubs of what it sets in NixOS. For a machine that has nixpkgs' lib alone:
#
#   nix-instantiate --eval --strict --json nix/service/evaluate.nix --arg lib 'import NIXPKGS/lib' \
#     --arg configuration '{ services.dgx-vllm.instances.main.model = "owner/name"; }'
#
# The package is a stub too, so that nothing is built.
{ lib, configuration }:
let
  package = { type = "derivation"; name = "dgx-vllm"; outPath = "/nix/store/none"; meta.mainProgram = "dgx-vllm"; };
  pkgs = {
    stdenv.hostPlatform.system = "aarch64-linux";
    runCommand = name: _: _: "/nix/store/none-${name}";
  };
  anything = lib.mkOption { type = lib.types.anything; default = { }; };
  list = lib.mkOption { type = lib.types.listOf lib.types.anything; default = [ ]; };

  evaluated = lib.evalModules {
    modules = [
      (import ./module.nix { packages.aarch64-linux.default = package; })
      configuration
      {
        config._module.args = { inherit pkgs; };
        options = {
          assertions = list;
          warnings = list;
          systemd.services = anything;
          networking.firewall.allowedTCPPorts = list;
          environment.systemPackages = list;
        };
      }
    ];
  };
  inherit (evaluated) config;
in
{
  failed = map (each: each.message) (builtins.filter (each: ! each.assertion) config.assertions);
  inherit (config) warnings;
  ports = config.networking.firewall.allowedTCPPorts;
  inherit (config.systemd) services;
}
