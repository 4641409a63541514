# What can be checked of the module only where nixpkgs is the real one.
{ nixpkgs, system, module, described }:
let
  pkgs = nixpkgs.legacyPackages.${system};
  agreement = import ./agreement.nix { inherit (nixpkgs) lib; };
  agrees = builtins.all (names: names == [ ]) (builtins.attrValues agreement.different);
in
{
  module = described "The service's options in NixOS's module system give the units that the check `service` holds"
    (pkgs.runCommand "check-module" { agreement = builtins.toJSON agreement; passAsFile = [ "agreement" ]; } ''
      ${if agrees then ''touch "$out"'' else ''cat "$agreementPath"; exit 1''}
    '');
}
  # The CPU build alone serves in a machine without a GPU.
  // (if system != "x86_64-linux" then { } else {
  vm = described "A NixOS machine with the service: ready, answering, surviving its engine, keeping its secret"
    (import ./vm-test.nix { inherit pkgs module; });
})
