# Of that machine: `nixos-generate-config --show-hardware-config > hardware-worker.nix`
throw "hardware-worker.nix is not that machine's yet: run nixos-generate-config --show-hardware-config > hardware-worker.nix there"
