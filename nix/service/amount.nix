# Amounts of memory as people write them: 40GB is 40 * 10^9 bytes, 40GiB 40 * 2^30. In MB, since Nix compares floats.
rec {
  pattern = "[0-9]+([.][0-9]+)?(GB|GiB)";
  megabytes = text:
    let parts = builtins.match "([0-9]+([.][0-9]+)?)(GB|GiB)" text;
    in builtins.fromJSON (builtins.head parts) * (if builtins.elemAt parts 2 == "GB" then 1000.0 else 1073.741824);
  # As one would write it, in tenths of a GB.
  shown = amount:
    let tenths = builtins.floor (amount / 100.0 + 0.5); in
    "${toString (tenths / 10)}.${toString (tenths - tenths / 10 * 10)} GB";
}
