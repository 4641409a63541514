# The module in the real module system, with stubs of what it reads and sets in NixOS. For a machine that has nixpkgs'
# lib alone:
#
#   nix-instantiate --eval --strict --json nix/service/evaluate.nix --arg lib 'import NIXPKGS/lib' \
#     --arg configuration '{ services.dgx-vllm.instances.main.model = "owner/name"; }'
#
# The package is a stub too, so that nothing is built.
{ lib, configuration, system ? "aarch64-linux" }:
let
  inherit (lib) mkOption types;
  package = { type = "derivation"; name = "dgx-vllm"; outPath = "/nix/store/none"; meta.mainProgram = "dgx-vllm"; };
  platform = { inherit system; };
  pkgs = {
    stdenv = { buildPlatform = platform; hostPlatform = platform; };
    runCommand = name: _: _: "/nix/store/none-${name}";
    formats.json = _: { type = json; };
  };
  json = types.nullOr
    (types.oneOf [ types.bool types.int types.float types.str types.path (types.attrsOf json) (types.listOf json) ])
    // { description = "JSON value"; };

  list = type: mkOption { type = types.listOf type; default = [ ]; };
  flag = mkOption { type = types.bool; default = false; };
  accounts = mkOption {
    type = types.attrsOf (types.submodule ({ name, ... }: {
      options.name = mkOption { type = types.str; default = name; };
      freeformType = types.attrsOf types.anything;
    }));
    default = { };
  };
  section = mkOption { type = types.attrsOf directive; default = { }; };
  # What NixOS takes for a directive of a unit file: one value, or a list for the same directive more than once. Lists
  # add up.
  directive = lib.mkOptionType {
    name = "directive of a unit file";
    merge = place: definitions:
      if builtins.any (each: builtins.isList each.value) definitions
      then lib.concatMap (each: lib.toList each.value) definitions
      else lib.mergeEqualOption place definitions;
  };
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
      environment = mkOption {
        type = types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]));
        default = { };
      };
    };
  };

  evaluated = lib.evalModules {
    class = "nixos";
    modules = [
      (import ./module.nix { packages = { aarch64-linux.default = package; x86_64-linux.default = package; }; })
      configuration
      {
        config._module.args = { inherit pkgs; };
        # As NixOS works it out.
        config.hardware.nvidia.enabled = builtins.elem "nvidia" config.services.xserver.videoDrivers;
        options = {
          assertions = list types.unspecified;
          warnings = list types.str;
          hardware.graphics.enable = flag;
          services.xserver.videoDrivers = list types.str;
          hardware.nvidia.enabled = mkOption { type = types.bool; readOnly = true; };
          users = { users = accounts; groups = accounts; };
          systemd.services = mkOption { type = types.attrsOf service; default = { }; };
          networking.firewall.allowedTCPPorts = list types.port;
          system.checks = list types.unspecified;
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
  checks = config.system.checks;
  ports = config.networking.firewall.allowedTCPPorts;
  inherit (config.systemd) services;
  inherit (config.services.dgx-vllm) instances;
  declared = lib.filter
    (option: lib.hasPrefix "services.dgx-vllm." option.name)
    (lib.optionAttrSetToDocList evaluated.options);
}
