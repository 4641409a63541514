# The module in the real module system, beside stubs of what it sets in NixOS. For a machine that has nixpkgs' lib alone:
#
#   nix-instantiate --eval --strict --json nix/service/evaluate.nix --arg lib 'import NIXPKGS/lib' \
#     --arg configuration '{ services.dgx-vllm.instances.main.model = "owner/name"; }'
#
# The package is a stub too, so that nothing is built.
{ lib, configuration }:
let
  inherit (lib) mkOption types;
  package = { type = "derivation"; name = "dgx-vllm"; outPath = "/nix/store/none"; meta.mainProgram = "dgx-vllm"; };
  pkgs = {
    stdenv.hostPlatform.system = "aarch64-linux";
    runCommand = name: _: _: "/nix/store/none-${name}";
  };

  list = type: mkOption { type = types.listOf type; default = [ ]; };
  section = mkOption { type = types.attrsOf directive; default = { }; };
  # What NixOS takes for a directive of a unit file: one value, or a list for the same directive more than once.
  value = types.oneOf [ types.bool types.int types.float types.str types.path types.package ];
  directive = types.nullOr (types.either value (types.listOf value));
  service = types.submodule {
    options = {
      description = mkOption { type = types.singleLineStr; };
      after = list types.str;
      wants = list types.str;
      requires = list types.str;
      conflicts = list types.str;
      wantedBy = list types.str;
      unitConfig = section;
      serviceConfig = section;
      environment = mkOption { type = types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ])); default = { }; };
    };
  };

  evaluated = lib.evalModules {
    modules = [
      (import ./module.nix { packages.aarch64-linux.default = package; })
      configuration
      {
        config._module.args = { inherit pkgs; };
        options = {
          assertions = list types.unspecified;
          warnings = list types.str;
          systemd.services = mkOption { type = types.attrsOf service; default = { }; };
          networking.firewall.allowedTCPPorts = list types.port;
          environment.systemPackages = list types.package;
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
