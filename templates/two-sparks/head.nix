# The Spark that clients reach. The server starts once the other one has joined.
{
  networking.hostName = "spark-head";
  networking.interfaces.enp1s0f0np0.ipv4.addresses = [ { address = "192.168.100.10"; prefixLength = 24; } ];

  virtualisation.oci-containers.containers.dgx-vllm = {
    cmd = [ "ray-head" "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4" ];
    environment = {
      NODE_IP = "192.168.100.10";
      HOST = "127.0.0.1"; # who reaches the server
    };
  };
}
