# Every pin's store path, for each system, by the fetchurl and fetchPypi of the nixpkgs that lies in a directory.
{ nixpkgs, pins ? ../../nix/pins }:
let
  lib = import (nixpkgs + "/lib");

  # A package function with what it asks for by name, of what there is: nixpkgs' releases ask for different things.
  call = file: available:
    let package = import (nixpkgs + "/pkgs/build-support/${file}");
    in package (builtins.intersectAttrs (builtins.functionArgs package) available);

  # The fetchers are nixpkgs' own; what they would run is not, as a fixed output's path does not know it.
  legacyPackages = system:
    let
      mkDerivation = arguments:
        let attributes = lib.fix (lib.toFunction arguments);
        in derivation (removeAttrs attributes [ "meta" "passthru" ] // { inherit system; __ignoreNulls = true; })
          // attributes.passthru or { };
      program = name: mkDerivation { inherit name; builder = "/${name}"; };
      stdenvNoCC = { inherit mkDerivation; };
      fetchurl = lib.makeOverridable (call "fetchurl") {
        inherit lib stdenvNoCC;
        buildPackages = { inherit stdenvNoCC; };
        curl = program "curl";
        cacert = program "cacert";
        # Settings of a nixpkgs: where else to look for a file.
        rewriteURL = url: url;
        hashedMirrors = [ ];
      };
    in
    {
      inherit fetchurl;
      fetchPypi = call "fetchpypi" { inherit lib fetchurl; inherit (lib) makeOverridable; };
      dpkg = program "dpkg";
    };

  storePaths = system: (import ../../nix/fetch.nix { pkgs = legacyPackages system; inherit pins; }).storePaths;
in
lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] storePaths
