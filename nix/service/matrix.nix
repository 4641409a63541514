# Instances that the check `service` renders in Nix and in Python, and what the assertions say of bad ones.
let
  defaults = {
    model = null; download = false; revision = null; offline = false; profile = null; host = "127.0.0.1"; port = 8888; settingsFile = null; settings = { };
    environment = { }; environmentFile = null; apiKeyFile = null; openMetrics = false; hfTokenFile = null; user = null; group = null;
    cacheDir = null; stateDir = null; memoryReserve = null; memoryBudget = null; memoryShed = null; memoryFloor = null; denseDtype = null; mtp = null; watchdog = 120;
    extraArgs = [ ]; openFirewall = false; autoStart = true;
  };
  command = "/nix/store/none/bin/dgx-vllm";

  # One option at a time, then everything at once.
  single = {
    model = "nvidia/Qwen3.6-35B-A3B-NVFP4";
    download = true;
    revision = "v1.0";
    offline = true;
    profile = "/root/own.toml";
    host = "::";
    port = 1;
    settingsFile = "/etc/dgx-vllm/main.yaml";
    environment = { A = "100% \"sure\" $HOME \\"; B = "ä"; };
    environmentFile = "/etc/dgx-vllm/env";
    apiKeyFile = "/run/secrets/key";
    openMetrics = true;
    hfTokenFile = "/run/secrets/token";
    user = "alice";
    cacheDir = "/srv/cache";
    stateDir = "/home/alice/vllm";
    memoryReserve = "6.5GB";
    memoryBudget = "40GiB";
    memoryShed = "1.5GB";
    memoryFloor = "0";
    denseDtype = "fp8";
    mtp = 2;
    watchdog = 0;
    extraArgs = [ "--max-model-len" "32768" "--served-model-name" "100% $mine" "--chat-template" "{{ \"a\\n\" }}" "--ssl-keyfile=/root/key.pem" "--tokenizer" "/home/alice/t" "--lora-modules" "a=/home/alice/a" "/home/b c" ];
    conflicts = [ "other" "third" ];
  };
  instances =
    [ { } single (single // { group = "models"; model = "/home/alice/model"; download = false; }) (single // { user = null; cacheDir = null; stateDir = null; }) ]
    ++ map (name: { ${name} = single.${name}; } // (if name == "download" then { inherit (single) model; } else { })) (builtins.attrNames single)
    ++ [
      { denseDtype = "nvfp4"; }
      { model = single.model; download = true; revision = "v1.0"; }
      { model = "/home/alice/50%full"; extraArgs = [ "--tokenizer=/home/alice/100%t" ]; }
      { model = single.model; download = true; conflicts = [ "a" "main-too" "z" ]; }
    ];
  # Of install-service alone: an instance of the module has both.
  unplaced = { host = null; port = null; };
  rendered = instance: { instance = removeAttrs (whole instance) [ "settings" "openFirewall" "autoStart" ]; units = import ./units.nix (whole instance); };
  whole = instance: defaults // { inherit command; name = "main"; conflicts = [ ]; } // instance;

  assertionsOf = memory: configured: map (each: each.message) (builtins.filter (each: ! each.assertion)
    (import ./assertions.nix { inherit memory; instances = builtins.mapAttrs (_: instance: defaults // instance) configured; }));
  conflictsOf = configured: builtins.mapAttrs
    (name: _: import ./conflicts.nix { inherit name; instances = builtins.mapAttrs (_: instance: defaults // instance) configured; })
    configured;

  hub = import ./hub.nix;
  models = [
    "nvidia/Qwen3.6-35B-A3B-NVFP4" "qwen3.6-35b-a3b-nvfp4" "gpt2" "demo" "/srv/model" "./model" "~/model" "owner/model/" "s3://bucket/model"
  ];
  model = "o/m";
  # Of these the server asks the hub for more than the model.
  asking = map (instance: { inherit model; } // instance) [
    { revision = "v1"; }
    { settings.tokenizer = "o/tokenizer"; }
    { settings.code_revision = "v1"; }
    { settings.lora-modules = [ "a=o/lora" ]; }
    { settings.speculative-config = { model = "o/draft"; }; }
    { settings.speculative-config = "{\"model\": \"o/draft\"}"; }
    { extraArgs = [ "--tokenizer" "o/tokenizer" ]; }
    { extraArgs = [ "--spec_model=o/draft" ]; }
    { extraArgs = [ "--speculative-config" "{\"model\": \"o/draft\"}" ]; }
    { extraArgs = [ "-sc.model" "o/draft" ]; }
  ];
  content = map (instance: { inherit model; } // instance) [
    { }
    { revision = "main"; }
    { settings.tokenizer = "o/m"; }
    { settings.tokenizer = "/srv/tokenizer"; }
    { settings.speculative-config = { method = "mtp"; num_speculative_tokens = 2; }; }
    { extraArgs = [ "--max-model-len" "4096" "--speculative-config" "{\"method\": \"mtp\"}" ]; }
  ];

  configured = {
    nothing = { main = { }; };
    two = { a = { memoryBudget = "50GB"; }; b = { memoryBudget = "60GB"; port = 8889; }; };
    budgets = { a = { memoryBudget = "80GB"; }; b = { memoryBudget = "40GB"; port = 8889; }; };
    port = { a = { memoryBudget = "1GB"; }; b = { memoryBudget = "1GB"; }; };
    swapped = { a = { }; b = { autoStart = false; }; };
    rivals = { a = { }; b = { port = 8889; }; };
    cache = { a = { cacheDir = "/srv"; }; };
    group = { a = { group = "g"; }; };
    firewall = { a = { openFirewall = true; }; };
    download = { a = { download = true; }; };
    stored = { a = { apiKeyFile = "/nix/store/x-key"; }; };
    told = { a = { environment.VLLM_API_KEY = "k"; }; };
    argued = { a = { extraArgs = [ "--api-key=k" ]; }; };
    set = { a = { settings.api-key = "k"; }; };
    underscored = { a = { settings.api_key = "k"; }; };
    ported = { a = { settings.port = 9000; }; };
    hosted = { a = { environment.HOST = "::"; }; };
    revised = { a = { extraArgs = [ "--revision=v1" ]; }; };
    elsewhere = { a = { model = "o/m"; download = true; settings.download-dir = "/srv"; }; };
    named = { "A b" = { }; };
    fetching = { a-download = { }; };
    users = { a = { }; b = { user = "alice"; autoStart = false; }; c = { user = "bob"; cacheDir = "/srv"; autoStart = false; }; };
  };
in
{
  units = map rendered instances;
  alone = [ (rendered unplaced) ];

  fetched = builtins.listToAttrs (map (model: { name = model; value = hub.isFetched model; }) models);
  needed = map (instance: hub.isNeeded (defaults // instance)) asking;
  unneeded = map (instance: hub.isNeeded (defaults // instance)) content;

  refused = builtins.mapAttrs (_: assertionsOf "119.7GB") configured;
  inherit configured;

  conflicts = conflictsOf { a = { memoryBudget = "50GB"; }; b = { memoryBudget = "20GB"; }; c = { }; };
}
