# The module's options. Those of an instance have the names of python/dgx_vllm/service/instance.py, and of the
# launcher's own options. docs/reference/nixos-options.md is made of them (reference.nix).
#
# `package`: this machine's. `json`: the type of a JSON value.
{ lib, package, json, cfg }:
let
  inherit (lib) mkOption mkEnableOption types;
  amount = import ./amount.nix;
  hub = import ./hub.nix;
  words = import ./words.nix;
  inherit (import ./settings.nix) written;

  option = type: default: example: description: mkOption { inherit type default example description; };
  optional = type: option (types.nullOr type) null;
  switch = default: description: mkOption { type = types.bool; inherit default description; example = ! default; };

  matching = pattern: description: types.strMatching pattern // { inherit description; };
  word = pattern: matching pattern "a word without blanks and without a dash in front";
  bytes = matching amount.pattern "an amount of memory such as 40GB";
  limit = matching "0|${amount.pattern}" "an amount of memory such as 2GB, or 0";
  account = matching words.account "the name of an account";
  place = matching words.place "an absolute path in quotes, without blanks, colons and percent signs";
  variables = types.attrsOf types.singleLineStr;

  # An overlay's, or an input's: nixpkgs has none.
  ours = lib.mkPackageOption { default = package; } "dgx-vllm" {
    default = "default";
    example = "pkgs.dgx-vllm";
    pkgsText = "dgx-vllm.packages.\${system}";
  };

  # By the types of the table.
  own = (import ./serve-options.nix).declared {
    inherit mkOption;
    types = {
      inherit (types) nullOr;
      inherit limit;
      flag = _: types.bool;
      text = _: word words.model;
      profile = _: word words.profile;
      file = _: place;
      directory = _: place;
      secret-file = _: place;
      amount = _: bytes;
      seconds = _: types.ints.unsigned;
      choice = entry: types.enum entry.choices;
    };
  };

  instance = {
    options = own // {
      enable = mkEnableOption "this instance" // { default = true; example = false; };
      package = ours // {
        default = cfg.package;
        defaultText = lib.literalExpression "config.services.dgx-vllm.package";
      };
      autoStart = switch true "Whether it starts with the machine.";
      model = optional (word words.model) "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
        ("The model: an id of the Hugging Face hub, a profile's name or an absolute directory; null for the one that "
          + "`settings.model` or MODEL of `environment` names, or else the built-in demo.");
      download = mkOption {
        type = types.bool;
        example = false;
        description = "Whether `dgx-vllm-NAME-download.service` fetches the model before the server starts.";
        defaultText = lib.literalMD "true where `model` is an id of the hub, or the name of a profile of one";
      };
      revision = optional (word words.revision) "v1.0" "The model's branch, tag or commit; null for main.";
      offline = mkOption {
        type = types.bool;
        example = false;
        description = "Whether the server is kept from asking the hub, so that it starts without a network.";
        defaultText = lib.literalMD
          ("true with `download`, unless `revision`, `settings`, `extraArgs` or a `profile` of your own may name "
            + "what it does not fetch");
      };
      host = option (matching words.host "an address or the name of a host") "127.0.0.1" "0.0.0.0"
        "The address to listen on.";
      port = option types.port 8888 9000 "The port to listen on; HOST and PORT of `environmentFile` do not count.";
      openFirewall = switch false "Whether the firewall lets others reach the port.";
      settings = mkOption {
        type = types.submodule {
          freeformType = types.attrsOf json;
          options = import ./flags.nix { inherit lib json; };
        };
        default = { };
        example = { max-model-len = 32768; enable-auto-tool-choice = true; tool-call-parser = "hermes"; };
        description =
          "vLLM's flags by name, without the dashes in front. They become the file of `--config`; a flag that "
          + "vLLM lacks stops the build.";
      };
      environment = option variables { } { VLLM_LOGGING_LEVEL = "DEBUG"; } "Variables for the server.";
      environmentFile = optional place "/etc/dgx-vllm/environment"
        "A file with more variables, which systemd reads as root.";
      hfTokenFile = optional place "/run/secrets/hf-token"
        "A file with a token of the Hugging Face hub. systemd hands it on as a credential.";
      user = optional account "alice"
        ("Who runs it: an account of `users.users`, which the module does not make. Null for one that exists "
          + "while it runs.");
      group = optional account "models" "The group, of `users.groups`; null for the user's own.";
      cacheDir = optional place "/srv/models"
        "Where models and compiled kernels are kept; null for /var/cache/dgx-vllm. It needs a `user` who owns it.";
      stateDir = optional place "/srv/dgx-vllm"
        "The home directory; null for one below /var/lib. It needs a `user` who owns it.";
      mtp = optional types.ints.positive 2 "Tokens to draft with the model's MTP layer; null as the profile says.";
      extraArgs = option (types.listOf types.singleLineStr) [ ] [ "--enable-log-requests" ] "More of the command line.";
    };
  };

  # Their defaults depend on other options' values.
  withHub = { config, ... }: {
    config.model = lib.mkIf (hub.named config != null) (lib.mkDefault (hub.named config));
    config.download = lib.mkDefault (hub.isFetched config.model);
    config.offline = lib.mkDefault
      (config.download && ! hub.isNeeded (config // { settings = written config.settings; }));
  };
in
{
  package = ours;
  memory = option bytes "119.7GiB" "55GiB" (
    "The memory of this machine, which the budgets share. The default is what the system of a 128 GB Spark sees. "
    + "For a 64 GB Spark set 55GiB."
  );
  instances = mkOption {
    type = types.attrsOf (types.submodule [ instance withHub ]);
    default = { };
    example.main = { model = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"; apiKeyFile = "/run/secrets/dgx-vllm-key"; };
    description = "Served models by name. Each is a unit, `dgx-vllm-NAME.service`.";
  };
}
