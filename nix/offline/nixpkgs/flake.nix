{
  description = "Stands in for nixpkgs offline: fixed outputs that nix/offline.sh puts into the store";

  outputs = { self }:
    let
      # A fixed output's path is a function of its name and hash alone, so it is the one that nixpkgs' fetcher has.
      # The builder runs only where the file is not in the store: its name is the message.
      fixedOutput = system: { name, sha256, mode }: derivation {
        inherit name system;
        builder = "/this-file-is-fetched-by/nix/offline.sh";
        outputHash = sha256;
        outputHashAlgo = "sha256";
        outputHashMode = mode;
        preferLocalBuild = true;
      };

      fetchers = system: {
        fetchurl = { url, sha256, name ? baseNameOf url, recursiveHash ? false, ... }:
          fixedOutput system { inherit name sha256; mode = if recursiveHash then "recursive" else "flat"; };

        fetchPypi = { pname, version, sha256, python, abi, platform, ... }:
          fixedOutput system {
            inherit sha256;
            name = "${pname}-${version}-${python}-${abi}-${platform}.whl";
            mode = "flat";
          };
      };
    in
    {
      legacyPackages = {
        x86_64-linux = fetchers "x86_64-linux";
        aarch64-linux = fetchers "aarch64-linux";
      };
    };
}
