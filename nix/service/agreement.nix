# matrix.nix through the real module system: what comes out must be what units.nix makes and assertions.nix says.
#
#   nix-instantiate --eval --strict --json nix/service/agreement.nix --arg lib 'import NIXPKGS/lib'
#
# gives the instances and the bad configurations that were tried, and those that differ. The check `module` holds it empty
# where nixpkgs is the real one.
{ lib }:
let
  matrix = import ./matrix.nix;
  evaluate = instances: import ./evaluate.nix { inherit lib; configuration.services.dgx-vllm.instances = instances; };
  rendered = service: {
    inherit (service) environment serviceConfig unitConfig after wants requires conflicts;
  };

  # An option for each field but those that the module works out: from `settings`, from the other instances, from the package.
  options = instance: removeAttrs instance [ "name" "command" "settingsFile" "conflicts" ];

  # An instance without what one configuration of one instance cannot have.
  alone = instance: instance // { settingsFile = null; conflicts = [ ]; command = "/nix/store/none/bin/dgx-vllm"; };
  expected = instance: lib.mapAttrs'
    (file: unit: lib.nameValuePair (lib.removeSuffix ".service" file) {
      inherit (unit) environment;
      serviceConfig = unit.service;
      unitConfig = removeAttrs unit.unit [ "Description" "After" "Wants" "Requires" "Conflicts" ];
      after = unit.unit.After or [ ];
      wants = unit.unit.Wants or [ ];
      requires = unit.unit.Requires or [ ];
      conflicts = unit.unit.Conflicts or [ ];
    })
    (import ./units.nix instance);

  instances = map (entry: alone entry.instance) matrix.units;
  agrees = instance: builtins.mapAttrs (_: rendered) (evaluate { ${instance.name} = options instance; }).services == expected instance;
  # The module's package is that of the instances which name none.
  other = { type = "derivation"; name = "other"; outPath = "/nix/store/other"; meta.mainProgram = "dgx-vllm"; };
  packaged = import ./evaluate.nix { inherit lib; configuration.services.dgx-vllm = { package = other; instances.main = { }; }; };
  refusals = builtins.filter (name: (evaluate matrix.configured.${name}).failed != matrix.refused.${name}) (builtins.attrNames matrix.refused);
in
{
  tried = { instances = builtins.length instances; refused = builtins.length (builtins.attrNames matrix.refused); };
  different = {
    instances = builtins.filter (instance: ! agrees instance) instances;
    refused = refusals;
    packages = lib.optional (! lib.hasInfix "\"/nix/store/other/bin/dgx-vllm\"" packaged.services.dgx-vllm-main.serviceConfig.ExecStart) "main";
  };
}
