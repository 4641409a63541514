# How each platform is called: by Nix, by Debian, by GCC, by qemu; and `gpu`, what its kernels are compiled for.
{
  x86_64-linux = {
    system = "x86_64-linux";
    debian = "amd64";
    triple = "x86_64-linux-gnu";
    loader = "lib64/ld-linux-x86-64.so.2"; # where an executable asks for it, below /
    gpu = "sm_90a"; # Hopper, where the kernels are verified; nothing of the product
  };
  aarch64-linux = {
    system = "aarch64-linux";
    debian = "arm64";
    triple = "aarch64-linux-gnu";
    loader = "lib/ld-linux-aarch64.so.1";
    gpu = "sm_121a"; # GB10
    qemu = "aarch64";
    # How its programs begin, as binfmt_misc takes it: ELF, 64 bits, little-endian, an executable for AArch64.
    header = {
      magic = ''\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'';
      mask = ''\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'';
    };
  };
}
