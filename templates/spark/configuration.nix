# A Spark that serves one model on its own address, 127.0.0.1:8888.
{
  networking.hostName = "spark";
  system.stateVersion = "26.05";

  # The driver: 580 or later, with the open kernel modules, which are all that a GB10 has.
  nixpkgs.config.allowUnfree = true;
  hardware.graphics.enable = true;
  hardware.nvidia.open = true;
  services.xserver.videoDrivers = [ "nvidia" ]; # names the driver; no X server comes with it

  services.dgx-vllm.instances.main = {
    model = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4";
    settings.max-model-len = 32768; # any vLLM flag; docs/reference/nixos-options.md lists the options

    # For others on your network:
    # host = "0.0.0.0";
    # openFirewall = true;
    # apiKeyFile = "/etc/dgx-vllm/key"; # head --bytes=24 /dev/urandom | base64
  };
}
