# Everything that is made for `host`, assembled on `build`: base -> environment -> command.
{ build, host, fetch }:
let
  base = import ./base { inherit build host fetch; };
  python = import ./python { inherit build host base fetch; };
  vllm = import ./vllm.nix { inherit host python fetch; };
  package = import ./package.nix { inherit python; };
  cuda = import ./cuda.nix { inherit host base python fetch; };

  environment = python.environment {
    name = "vllm-environment";
    wheels = vllm.wheels ++ [ package ];
    inherit (vllm) overlays;
  };
in
{
  inherit host base python vllm package cuda environment;
  launcher = import ./launcher.nix { inherit host base environment cuda; inherit (package) version; };
}
