# What works and is seldom meant, and what a machine seems to lack. `isSpark`: whether the servers want a GPU;
# `graphics` and `driver`: what the configuration says of it.
{ instances, isSpark, graphics, driver }:
let
  names = builtins.attrNames instances;
  isLoopback = import ./is-loopback.nix;
  isOpen = instance: ! isLoopback instance.host && instance.apiKeyFile == null;
  open = builtins.filter (name: isOpen instances.${name}) names;

  # An instance may be told of a driver in another place.
  driven = builtins.filter (name: ! instances.${name}.environment ? DGX_VLLM_DRIVER) names;
  wants = isSpark && driven != [ ];
  when = condition: message: if condition then [ "services.dgx-vllm: ${message}" ] else [ ];

  spread = builtins.filter
    (name: instances.${name}.settings ? nnodes
      || builtins.any (word: builtins.match "--nnodes(=.*)?" word != null) instances.${name}.extraArgs)
    names;
in
map
  (name: "services.dgx-vllm.instances.${name} listens on ${instances.${name}.host} and requires no key; "
    + "set apiKeyFile, or put a reverse proxy with TLS in front of 127.0.0.1")
  open
++ map
  (name: "services.dgx-vllm.instances.${name} is one of several nodes; a unit has no access to InfiniBand devices, "
    + "and two machines are untested")
  spread
++ when (wants && ! graphics)
  ("hardware.graphics.enable is off, and /run/opengl-driver, where servers look for NVIDIA's driver, "
    + "will not be there; set hardware.graphics.enable = true")
++ when (wants && ! driver)
  ("no NVIDIA driver is configured; set services.xserver.videoDrivers = [ \"nvidia\" ] "
    + "and hardware.nvidia.open = true")
