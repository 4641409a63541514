# What both Sparks have: the driver, containers with the GPU, and the cable between the two. Not run on two Sparks.
#
# Load the image on each machine first, in a checkout of dgx-vllm: nix run .#load-image
{
  system.stateVersion = "26.05";

  nixpkgs.config.allowUnfree = true;
  hardware.graphics.enable = true;
  hardware.nvidia.open = true;
  services.xserver.videoDrivers = [ "nvidia" ]; # names the driver; no X server comes with it
  hardware.nvidia-container-toolkit.enable = true;

  virtualisation.docker.enable = true;
  virtualisation.oci-containers.backend = "docker";
  virtualisation.oci-containers.containers.dgx-vllm = {
    image = "dgx-vllm";
    volumes = [ "dgx-vllm:/cache" ];
    extraOptions = [
      "--device=nvidia.com/gpu=all"
      "--network=host"
      "--ipc=host"
      "--ulimit=memlock=-1"
      "--device=/dev/infiniband"
    ];
  };

  # Ray has no password. Its ports are open on the cable alone; `ip link` names the ConnectX-7 port.
  networking.firewall.interfaces.enp1s0f0np0.allowedTCPPortRanges = [ { from = 1024; to = 65535; } ];
  networking.interfaces.enp1s0f0np0.mtu = 9000;
}
