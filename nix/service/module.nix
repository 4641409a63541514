# NixOS: services.dgx-vllm.instances.<name>. The flake's packages -> a module.
{ packages }:
{
  _file = ./module.nix; # where messages and manuals say that an option is declared
  # One module however many import it, from whichever copy of the flake.
  key = "dgx-vllm#nixosModules.default";
  _class = "nixos";

  imports = [
    ({ config, lib, pkgs, ... }:
      let
        cfg = config.services.dgx-vllm;
        format = pkgs.formats.json { };
        inherit (import ./settings.nix) written;
        enabled = builtins.mapAttrs (_: instance: instance // { settings = written instance.settings; })
          (lib.filterAttrs (_: instance: instance.enable) cfg.instances);

        # vLLM's flags are checked while the system is built, not when the server starts.
        settingsFile = name: instance:
          if instance.settings == { } then null
          else pkgs.runCommand "dgx-vllm-${name}.yaml"
            {
              settings = builtins.toJSON instance.settings;
              passAsFile = [ "settings" ];
            } ''
            cp "$settingsPath" "$out"
            ${lib.getExe instance.package} check-config "$out"
          '';

        # So are its variables, as the file of variables that systemd would read.
        checkedEnvironment = name: instance: pkgs.runCommand "dgx-vllm-${name}-environment"
          {
            variables = lib.concatStrings
              (lib.mapAttrsToList (variable: value: "${variable}=${builtins.toJSON value}\n") instance.environment);
            passAsFile = [ "variables" ];
          } ''
          ${lib.getExe instance.package} check-environment "$variablesPath"
          touch "$out"
        '';

        # What units.nix takes.
        plain = name: instance: (import ./serve-options.nix).of instance // {
          inherit name;
          inherit (instance) model host port environment environmentFile hfTokenFile user group cacheDir stateDir mtp;
          inherit (instance) extraArgs download revision offline;
          command = lib.getExe instance.package;
          settingsFile = settingsFile name instance;
          reading = (import ./hub.nix).reading instance;
          conflicts = import ./conflicts.nix { inherit name; instances = enabled; };
        };

        # What the unit is; the rest a configuration may change without mkForce. Lists add up.
        settled = [ "ExecStart" "Type" "NotifyAccess" "User" "Group" "DynamicUser" ]
          ++ [ "RuntimeDirectory" "CacheDirectory" "StateDirectory" ];
        open = builtins.mapAttrs
          (name: value: if builtins.isList value || builtins.elem name settled then value else lib.mkDefault value);

        service = target: file: unit: {
          name = lib.removeSuffix ".service" file;
          value = {
            description = lib.mkDefault unit.unit.Description;
            after = unit.unit.After or [ ];
            wants = unit.unit.Wants or [ ];
            requires = unit.unit.Requires or [ ];
            conflicts = unit.unit.Conflicts or [ ];
            wantedBy = target;
            unitConfig = open (removeAttrs unit.unit [ "Description" "After" "Wants" "Requires" "Conflicts" ]);
            serviceConfig = open unit.service;
            inherit (unit) environment;
          };
        };

        services = name: instance:
          let
            isStarted = file: instance.autoStart && ! lib.hasSuffix "-download.service" file;
          in
          lib.mapAttrsToList
            (file: service (lib.optional (isStarted file) "multi-user.target") file)
            (import ./units.nix (plain name instance));

        names = accounts: lib.mapAttrsToList (_: account: account.name) accounts;
      in
      {
        options.services.dgx-vllm = import ./options.nix {
          inherit lib cfg;
          package = import ../host-package.nix packages pkgs.stdenv;
          json = format.type;
        };

        config = lib.mkIf (enabled != { }) {
          assertions = import ./assertions.nix {
            inherit (cfg) memory;
            instances = enabled;
            users = names (config.users.users or { }); # of NixOS; a test of the module alone may have none
            groups = names (config.users.groups or { });
          };
          warnings = import ./warnings.nix {
            instances = enabled;
            isSpark = pkgs.stdenv.hostPlatform.system == "aarch64-linux";
            graphics = config.hardware.graphics.enable or false;
            # Of either branch of NVIDIA's driver; older releases of NixOS tell the first one alone.
            driver = config.hardware.nvidia.enabled
              or (builtins.elem "nvidia" (config.services.xserver.videoDrivers or [ ]));
          };
          systemd.services = builtins.listToAttrs (lib.concatLists (lib.mapAttrsToList services enabled));
          networking.firewall.allowedTCPPorts = lib.mapAttrsToList
            (_: instance: instance.port)
            (lib.filterAttrs (_: instance: instance.openFirewall) enabled);
          system.checks = lib.mapAttrsToList
            checkedEnvironment
            (lib.filterAttrs (_: instance: instance.environment != { }) enabled);
          environment.systemPackages = [ cfg.package ]; # doctor, plan, profiles
        };
      })
  ];
}
