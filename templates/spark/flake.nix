{
  description = "A DGX Spark with NixOS that serves a model by vLLM";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    # Where dgx-vllm is: a checkout, or the address of its repository.
    dgx-vllm.url = "git+file:///home/me/dgx-vllm";
  };

  outputs = { nixpkgs, dgx-vllm, ... }: {
    nixosConfigurations.spark = nixpkgs.lib.nixosSystem {
      system = "aarch64-linux";
      modules = [
        dgx-vllm.nixosModules.default
        ./hardware-configuration.nix
        ./configuration.nix
      ];
    };
  };
}
