# Our own package, from python/.
{ python }:
let
  project = (builtins.fromTOML (builtins.readFile ../python/pyproject.toml)).project;
  source = builtins.path {
    name = "dgx-vllm-source";
    path = ../python;
    filter = path: type: builtins.match ".*/(__pycache__|\\.[^/]*_cache)" path == null;
  };
  wheel = python.wheelOf { inherit (project) name version; inherit source; };
in
python.unpackWheel { inherit (project) name version; src = wheel; }
