# Of this machine: `nixos-generate-config --show-hardware-config > hardware-configuration.nix`
throw "hardware-configuration.nix is not this machine's yet: run nixos-generate-config --show-hardware-config > hardware-configuration.nix"
