# Our own package, from python/.
{ python }:
let
  inherit (import ./source.nix) source;
  project = (builtins.fromTOML (builtins.readFile ../python/pyproject.toml)).project;
  wheel = python.wheelOf { inherit (project) name version; source = source ../python; };
in
python.unpackWheel { inherit (project) name version; src = wheel; } // { inherit (project) version; }
