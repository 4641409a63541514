# Of that machine: `nixos-generate-config --show-hardware-config > hardware-head.nix`
throw "hardware-head.nix is not that machine's yet: run nixos-generate-config --show-hardware-config > hardware-head.nix there"
