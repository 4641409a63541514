{
  description = "vLLM on NVIDIA's DGX Spark (GB10): pinned to the byte, NVFP4 first, one command to serve";

  # Only its fetchers are used by the packages; nix/offline.sh puts nix/offline/nixpkgs in its place.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/efa487181cc01970ebb09ed193fa71dfe94784b1";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      outputsOf = system: import ./nix { inherit self nixpkgs system; };
      each = output: builtins.listToAttrs
        (map (system: { name = system; value = (outputsOf system).${output}; }) systems);
    in
    {
      packages = each "packages";
      apps = each "apps";
      checks = each "checks";
      devShells = each "devShells";
      formatter = each "formatter";

      # services.dgx-vllm.instances.<name>: docs/guides/service.md.
      nixosModules = rec {
        dgx-vllm = import ./nix/service/module.nix { inherit (self) packages; };
        default = dgx-vllm;
      };

      overlays.default = final: prev: { dgx-vllm = import ./nix/host-package.nix self.packages prev.stdenv; };

      templates = rec {
        default = spark;
        spark = {
          path = ./templates/spark;
          description = "A DGX Spark with NixOS that serves a model";
          welcomeText = ''
            Next, in flake.nix: say where dgx-vllm is. Then, on the Spark:

                nixos-generate-config --show-hardware-config > hardware-configuration.nix
                nixos-rebuild switch --flake .#spark
          '';
        };
        two-sparks = {
          path = ./templates/two-sparks;
          description = "Two DGX Sparks with NixOS that serve one model in containers, joined by Ray; not run yet";
        };
        compose = {
          path = ./templates/compose;
          description = "One model in a container, with docker compose";
        };
        profile = {
          path = ./templates/profile;
          description = "A profile for a model of your own";
        };
      };
    };
}
