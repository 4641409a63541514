# How each platform is called: by Nix, by Debian, by GCC.
{
  x86_64-linux = {
    system = "x86_64-linux";
    debian = "amd64";
    triple = "x86_64-linux-gnu";
    loader = "lib64/ld-linux-x86-64.so.2"; # where an executable asks for it, below /
  };
  aarch64-linux = {
    system = "aarch64-linux";
    debian = "arm64";
    triple = "aarch64-linux-gnu";
    loader = "lib/ld-linux-aarch64.so.1";
  };
}
