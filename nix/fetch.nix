# Pins -> fixed-output paths, through whichever fetchers the nixpkgs input brings.
{ pkgs, pins ? ./pins }:
let
  read = kind: builtins.fromJSON (builtins.readFile (pins + "/${kind}.json"));
  debian = read "debian";
  pypi = read "pypi";

  # Servers that carry both archives have the security archive next to the main one.
  url = file:
    if builtins.substring 0 13 file == "pool/updates/" then "mirror://debian/../debian-security/${file}"
    else "mirror://debian/${file}";

  # A store name may hold no "~".
  storeName = file: builtins.replaceStrings [ "~" ] [ "_" ] (baseNameOf file);

  # name-version[-build]-python-abi-platform.whl, the parts that fetchPypi asks for.
  wheelParts = file:
    let
      stem = builtins.substring 0 (builtins.stringLength file - 4) file;
      parts = builtins.filter builtins.isString (builtins.split "-" stem);
      count = builtins.length parts;
      part = builtins.elemAt parts;
    in
    {
      pname = part 0;
      version = builtins.concatStringsSep "-" (builtins.genList (i: part (i + 1)) (count - 4));
      python = part (count - 3);
      abi = part (count - 2);
      platform = part (count - 1);
    };

  deb = file: pkgs.fetchurl {
    url = url file;
    name = storeName file;
    inherit (debian.files.${file}) sha256;
  };

  fetchWheel = file:
    let parts = wheelParts file; in
    {
      inherit file;
      inherit (pypi.files.${file}) name version;
      src = pkgs.fetchPypi (parts // {
        format = "wheel";
        dist = parts.python;
        inherit (pypi.files.${file}) sha256;
      });
    };
in
rec {
  debs = group: system: map deb debian.groups.${group}.${system};

  wheels = group: system: map fetchWheel pypi.groups.${group}.${system};

  wheel = group: system: name:
    let matching = builtins.filter (pin: pin.name == name) (wheels group system); in
    if matching != [ ] then builtins.head matching
    else throw ("nix/pins has no wheel ${name} for ${system} in the group ${group}: "
      + "add it to nix/pins/pyproject.toml, then run `nix run .#update -- --keep`");

  # Every fixed output by what it is: a pool path, a wheel's file name, the seed of a system.
  storePaths = builtins.mapAttrs (file: _: (deb file).outPath) debian.files
    // builtins.mapAttrs (file: _: (fetchWheel file).src.outPath) pypi.files
    // builtins.mapAttrs (system: _: (seed system).outPath) debian.seed;

  # Before anything can be unpacked something must be: busybox, out of its package by the fetcher itself.
  seed = system: pkgs.fetchurl {
    url = url debian.seed.${system}.file;
    name = "busybox";
    inherit (debian.seed.${system}) sha256;
    recursiveHash = true;
    downloadToTemp = true;
    nativeBuildInputs = [ pkgs.dpkg ];
    postFetch = ''
      dpkg-deb --extract "$downloadedFile" package
      install -D -m 555 package/bin/busybox "$out/bin/busybox"
    '';
  };
}
