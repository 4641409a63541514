{
  description = "Two DGX Sparks with NixOS that serve one model by vLLM and Ray";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { nixpkgs, ... }:
    let
      spark = name: nixpkgs.lib.nixosSystem {
        system = "aarch64-linux";
        modules = [ ./common.nix (./. + "/${name}.nix") (./. + "/hardware-${name}.nix") ];
      };
    in
    {
      nixosConfigurations = {
        head = spark "head";
        worker = spark "worker";
      };
    };
}
