# NixOS: services.dgx-vllm.instances.<name>.
{ packages }:
{ config, lib, pkgs, ... }:
let
  cfg = config.services.dgx-vllm;
  enabled = lib.filterAttrs (_: instance: instance.enable) cfg.instances;

  # vLLM's flags are checked while the system is built, not when the server starts.
  settingsFile = name: instance:
    if instance.settings == { } then null
    else pkgs.runCommand "dgx-vllm-${name}.yaml" { settings = builtins.toJSON instance.settings; passAsFile = [ "settings" ]; } ''
      cp "$settingsPath" "$out"
      ${lib.getExe instance.package} check-config "$out"
    '';

  # What units.nix takes.
  plain = name: instance: {
    inherit name;
    inherit (instance) model profile host port environment environmentFile apiKeyFile openMetrics hfTokenFile user group cacheDir stateDir;
    inherit (instance) memoryReserve memoryBudget memoryShed memoryFloor denseDtype mtp watchdog extraArgs download revision offline;
    command = lib.getExe instance.package;
    settingsFile = settingsFile name instance;
    conflicts = import ./conflicts.nix { inherit name; instances = enabled; };
  };

  service = target: file: unit: {
    name = lib.removeSuffix ".service" file;
    value = {
      description = unit.unit.Description;
      after = unit.unit.After or [ ];
      wants = unit.unit.Wants or [ ];
      requires = unit.unit.Requires or [ ];
      conflicts = unit.unit.Conflicts or [ ];
      wantedBy = target;
      unitConfig = removeAttrs unit.unit [ "Description" "After" "Wants" "Requires" "Conflicts" ];
      serviceConfig = unit.service;
      inherit (unit) environment;
    };
  };

  services = name: instance: lib.mapAttrsToList
    (file: service (lib.optional (instance.autoStart && ! lib.hasSuffix "-download.service" file) "multi-user.target") file)
    (import ./units.nix (plain name instance));
in
{
  options.services.dgx-vllm = import ./options.nix { inherit lib packages pkgs cfg; };

  config = lib.mkIf (enabled != { }) {
    assertions = import ./assertions.nix { inherit (cfg) memory; instances = enabled; };
    warnings = import ./warnings.nix { instances = enabled; };
    systemd.services = builtins.listToAttrs (lib.concatLists (lib.mapAttrsToList services enabled));
    networking.firewall.allowedTCPPorts = lib.mapAttrsToList (_: instance: instance.port) (lib.filterAttrs (_: instance: instance.openFirewall) enabled);
    environment.systemPackages = [ cfg.package ]; # doctor, plan, profiles
  };
}
