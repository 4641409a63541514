# A NixOS machine that serves the demo on vLLM's CPU backend. For nixpkgs users; it needs a builder with KVM.
{ pkgs, module }:
pkgs.testers.runNixOSTest {
  name = "dgx-vllm-service";
  nodes.machine = {
    imports = [ module ];
    virtualisation = { cores = 2; memorySize = 8192; }; # MB: vLLM's imports and the demo take 3 GB
    services.dgx-vllm.instances.main = {
      autoStart = false; # the key comes first
      apiKeyFile = "/root/key";
    };
  };
  testScript = builtins.readFile ./vm-test.py;
}
