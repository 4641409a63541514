# Everything that is made for `host`, assembled on `build`: base -> environment -> command.
{ build, host, fetch }:
let
  base = import ./base { inherit build host fetch; };
  python = import ./python { inherit build host base fetch; };
  vllm = import ./vllm.nix { inherit host python fetch; };
  package = import ./package.nix { inherit python; };
  cuda = (import ./cuda.nix { inherit host base python fetch; }).toolkit;

  # What compiles is the build platform's.
  kernels = import ./kernels.nix {
    inherit host base python fetch;
    cuda =
      let
        host = build;
        base = import ./base { inherit build host fetch; };
        python = import ./python { inherit build host base fetch; };
      in
      (import ./cuda.nix { inherit host base python fetch; }).compiler;
  };

  environment = python.environment {
    name = "vllm-environment";
    wheels = vllm.wheels ++ [ package ] ++ (if host.system == "aarch64-linux" then [ kernels ] else [ ]);
    inherit (vllm) overlays;
  };
in
{
  inherit host base python vllm package cuda kernels environment;
  launcher = import ./launcher.nix { inherit host base environment cuda; inherit (package) version; };
}
