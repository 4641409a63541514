# The module's options. Those of an instance have the names of python/dgx_vllm/service/instance.py.
{ lib, packages, pkgs, cfg }:
let
  inherit (lib) mkOption mkEnableOption types;
  amount = import ./amount.nix;
  hub = import ./hub.nix;

  optional = type: description: mkOption { type = types.nullOr type; default = null; inherit description; };
  bytes = types.strMatching amount.pattern // { description = "an amount of memory, such as 40GB"; };
  limit = types.strMatching "0|${amount.pattern}" // { description = "an amount of memory, such as 2GB, or 0"; };
  # A path as text: what a Nix path names would be copied into the store, which everybody can read.
  place = types.strMatching "/[^[:space:]:%]*" // { description = "an absolute path, quoted, without blanks, colons and percent signs"; };

  package = mkOption {
    type = types.package;
    default = packages.${pkgs.stdenv.hostPlatform.system}.default;
    defaultText = lib.literalExpression "dgx-vllm.packages.\${system}.default";
    description = "The package that gives `dgx-vllm`.";
  };

  instance = { name, ... }: {
    options = {
      enable = mkEnableOption "this instance" // { default = true; };
      package = package // { default = cfg.package; defaultText = lib.literalExpression "config.services.dgx-vllm.package"; };
      autoStart = mkOption { type = types.bool; default = true; description = "Whether it starts with the machine."; };
      model = optional types.singleLineStr "A Hugging Face id, a profile's name or a directory; null for the built-in demo.";
      download = mkOption {
        type = types.bool;
        description = "Whether `dgx-vllm-${name}-download.service` fetches the model before the server starts.";
        defaultText = lib.literalMD "true where `model` is a Hugging Face id, or the name of a profile of one";
      };
      revision = optional types.singleLineStr "The model's branch, tag or commit; null for main.";
      offline = mkOption {
        type = types.bool;
        description = "Whether the server is kept from asking the hub, so that it starts without a network.";
        defaultText = lib.literalMD "true with `download`, unless `revision`, `settings` or `extraArgs` name what it does not fetch";
      };
      profile = optional types.singleLineStr "The profile to apply instead of the model's own: a name, or a TOML file.";
      host = mkOption { type = types.singleLineStr; default = "127.0.0.1"; description = "The address to listen on."; };
      port = mkOption { type = types.port; default = 8888; description = "The port to listen on; HOST and PORT of `environmentFile` do not count."; };
      openFirewall = mkOption { type = types.bool; default = false; description = "Whether the firewall lets others reach the port."; };
      settings = mkOption {
        type = types.attrsOf types.anything;
        default = { };
        example = { max-model-len = 32768; };
        description = "vLLM's flags by name, without dashes. The file goes to `--config`; a flag that vLLM lacks stops the build.";
      };
      environment = mkOption { type = types.attrsOf types.singleLineStr; default = { }; description = "Variables for the server."; };
      environmentFile = optional place "A file with more variables, read by systemd as root.";
      apiKeyFile = optional place "A file with the key that clients must give. systemd hands it on as a credential.";
      openMetrics = mkOption { type = types.bool; default = false; example = true; description = "Whether /metrics answers without the key of `apiKeyFile`, for a Prometheus that has none."; };
      hfTokenFile = optional place "A file with a Hugging Face token, likewise.";
      user = optional types.singleLineStr "Who runs it; null for a user that exists while it runs.";
      group = optional types.singleLineStr "The group; null for the user's own.";
      cacheDir = optional place "Where models and compiled kernels are kept; null for /var/cache/dgx-vllm.";
      stateDir = optional place "The home directory; null for one below /var/lib.";
      memoryReserve = optional bytes "Memory that is left alone; null for 8GB.";
      memoryBudget = optional bytes "Memory that this instance may take. Instances run at once only if each has a budget.";
      memoryShed = optional limit "Available memory below which new requests are refused; null for a quarter of the reserve, 0 for never.";
      memoryFloor = optional limit "Available memory below which the server is ended; null for an eighth of the reserve, 0 for never.";
      denseDtype = optional (types.enum [ "bf16" "fp8" "nvfp4" ]) "What the projections that an NVFP4 checkpoint left in BF16 become; null as the profile says.";
      mtp = optional types.ints.positive "Tokens to draft with the model's MTP layer; null as the profile says.";
      watchdog = mkOption { type = types.ints.unsigned; default = 120; description = "Seconds of the engine's silence after which the server is restarted; 0 for never."; };
      extraArgs = mkOption { type = types.listOf types.singleLineStr; default = [ ]; description = "More of the command line."; };
    };
  };

  # Their defaults depend on other options' values.
  withHub = { config, ... }: {
    config.download = lib.mkDefault (hub.isFetched config.model);
    config.offline = lib.mkDefault (config.download && ! hub.isNeeded config);
  };
in
{
  inherit package;
  memory = mkOption { type = bytes; default = "119.7GB"; description = "The memory of this machine, which the budgets share."; };
  instances = mkOption {
    type = types.attrsOf (types.submodule [ instance withHub ]);
    default = { };
    description = "Served models by name.";
  };
}
