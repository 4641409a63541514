# The Spark that joins the head.
{
  networking.hostName = "spark-worker";
  networking.interfaces.enp1s0f0np0.ipv4.addresses = [ { address = "192.168.100.11"; prefixLength = 24; } ];

  virtualisation.oci-containers.containers.dgx-vllm = {
    cmd = [ "ray-worker" ];
    environment = {
      NODE_IP = "192.168.100.11";
      HEAD_IP = "192.168.100.10";
    };
  };
}
