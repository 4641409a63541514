# What works and is seldom meant.
{ instances }:
let
  loopback = host: builtins.elem host [ "localhost" "::1" ] || builtins.match "127[.].*" host != null;
  open = builtins.filter (name: let instance = instances.${name}; in ! loopback instance.host && instance.apiKeyFile == null) (builtins.attrNames instances);
in
map (name: "services.dgx-vllm.instances.${name} listens on ${instances.${name}.host} and asks nobody for a key; set apiKeyFile, or put a reverse proxy with TLS in front of 127.0.0.1") open
