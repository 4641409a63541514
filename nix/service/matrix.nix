# Instances that the check `service` renders in Nix and in Python, and what the assertions say of bad ones.
let
  own = import ./serve-options.nix;
  defaults = own.defaults // {
    model = null; download = false; revision = null; reading = [ ]; offline = false;
    host = "127.0.0.1"; port = 8888; settingsFile = null; settings = { };
    environment = { }; environmentFile = null; hfTokenFile = null;
    user = null; group = null; cacheDir = null; stateDir = null; mtp = null;
    extraArgs = [ ]; openFirewall = false; autoStart = true;
  };
  command = "/nix/store/none/bin/dgx-vllm";

  # One option at a time, then everything at once.
  single = own.examples // {
    model = "nvidia/Qwen3.6-35B-A3B-NVFP4";
    download = true;
    revision = "v1.0";
    reading = [ "--load-format" "mistral" ];
    offline = true;
    profile = "/root/own.toml";
    host = "::";
    port = 1;
    settingsFile = "/etc/dgx-vllm/main.yaml";
    environment = { A = "100% \"sure\" $HOME \\"; B = "ä"; };
    environmentFile = "/etc/dgx-vllm/env";
    pythonPath = "/home/alice/plugins";
    hfTokenFile = "/run/secrets/token";
    user = "alice";
    cacheDir = "/srv/cache";
    stateDir = "/home/alice/vllm";
    memoryBudget = "40GiB";
    memoryFloor = "0";
    mtp = 2;
    watchdog = 0;
    extraArgs = [ "--max-model-len" "32768" "--served-model-name" "100% $mine" "--chat-template" "{{ \"a\\n\" }}" ]
      ++ [ "--ssl-keyfile=/root/key.pem" "--tokenizer" "/home/alice/t" ]
      ++ [ "--lora-modules" "a=/home/alice/a" "{\"name\": \"b\", \"path\": \"/home/alice/b\"}" "/home/b c" ]
      ++ [ "--speculative-config={\"model\":\"/root/draft\",\"x\":\"/srv/home/x\"}" ];
    conflicts = [ "other" "third" ];
  };
  instances =
    [
      { }
      single
      (single // { group = "models"; model = "/home/alice/model"; download = false; })
      (single // { user = null; cacheDir = null; stateDir = null; })
    ]
    ++ map
      (name: { ${name} = single.${name}; } // (if name == "download" then { inherit (single) model; } else { }))
      (builtins.attrNames single)
    ++ [
      { denseDtype = "nvfp4"; }
      { model = single.model; download = true; inherit (single) reading; extraArgs = single.reading; }
      { model = single.model; download = true; revision = "v1.0"; }
      { model = "/home/alice/50%full"; extraArgs = [ "--tokenizer=/home/alice/100%t" ]; }
      { model = single.model; download = true; conflicts = [ "a" "main-too" "z" ]; }
    ];
  # Of install-service alone: an instance of the module has both.
  unplaced = { host = null; port = null; };
  rendered = instance: { instance = decoded instance; units = import ./units.nix (whole instance); };
  # As python/dgx_vllm/service/instance.py decodes it.
  decoded = instance: removeAttrs (plain instance) (builtins.attrNames own.defaults)
    // { options = own.asPython (whole instance); };
  plain = instance: removeAttrs (whole instance) [ "settings" "openFirewall" "autoStart" ];
  whole = instance: defaults // { inherit command; name = "main"; conflicts = [ ]; } // instance;

  complete = builtins.mapAttrs (_: instance: defaults // instance);
  accounts = { users = [ "root" "alice" "bob" ]; groups = [ "models" ]; };
  assertionsOf = memory: configured: map (each: each.message) (builtins.filter (each: ! each.assertion)
    (import ./assertions.nix ({ inherit memory; instances = complete configured; } // accounts)));
  conflictsOf = configured: builtins.mapAttrs
    (name: _: import ./conflicts.nix { inherit name; instances = complete configured; })
    configured;

  hub = import ./hub.nix;
  model = "o/m";
  # Of these the server asks the hub for more than the model.
  asking = map (instance: { inherit model; } // instance) [
    { revision = "v1"; }
    { profile = "/etc/own.toml"; }
    { settings.tokenizer = "o/tokenizer"; }
    { settings.code_revision = "v1"; }
    { settings.lora-modules = [ "a=o/lora" ]; }
    { extraArgs = [ "--tokenizer" "o/tokenizer" ]; }
    { extraArgs = [ "-sc" "{\"model\": \"o/draft\", \"method\": \"ngram\"}" ]; }
    { extraArgs = [ "--lora-modules" "b=/srv/lora" "{\"name\": \"a\", \"path\": \"o/lora\"}" ]; }
    { settings.lora-modules = [ "{\"name\": \"a\", \"path\": \"o/lora\"}" ]; }
    { settings.default-mm-loras = { image = "o/lora"; }; }
    { extraArgs = [ "--default-mm-loras={\"image\": \"o/lora\"}" ]; }
    { settings.generation-config = "o/other"; }
    { extraArgs = [ "--load-format" "sharded_state" "--model-loader-extra-config" "{\"pattern\": \"part-*\"}" ]; }
  ];
  content = map (instance: { inherit model; } // instance) [
    { }
    { revision = "main"; }
    { settings.tokenizer = "o/m"; }
    { settings.tokenizer = "/srv/tokenizer"; }
    { settings.speculative-config = { method = "mtp"; num_speculative_tokens = 2; }; }
    { settings.speculative-config = { model = "o/draft"; }; }
    { settings.speculative-config = "{\"model\": \"o/draft\"}"; }
    { extraArgs = [ "--spec_model=o/draft" ]; }
    { extraArgs = [ "--speculative-config" "{\"model\": \"o/draft\", \"revision\": \"v1\"}" ]; }
    { extraArgs = [ "-sc.model" "o/draft" ]; }
    { extraArgs = [ "-sc" "{\"model\": \"o/draft\"}" ]; }
    { extraArgs = [ "--max-model-len" "4096" "--speculative-config" "{\"method\": \"mtp\"}" ]; }
    {
      extraArgs = [ "--lora-modules" "b=/srv/lora" "{\"name\": \"a\", \"path\": \"/srv/lora\"}" ]
        ++ [ "--speculative-config" "{\"model\": \"/srv/draft\"}" ];
    }
    {
      extraArgs = [ "--chat-template" "{{ messages }}" "--hf-overrides={\"a\": 1}" ];
      settings.chat-template = "{% for m in messages %}";
    }
    { settings.lora-modules = [ "b=/srv/lora" ]; settings.generation-config = "vllm"; }
    {
      extraArgs = [ "--default-mm-loras={\"image\": \"/srv/lora\"}" "--seed" "-1" ]
        ++ [ "--tokenizer" "o/m" "--generation-config=auto" ];
    }
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
    gone = { a = { environment = { VLLM_USE_V1 = "1"; VLLM_ATTENTION_BACKEND = "FLASHINFER"; }; }; };
    told = { a = { environment.VLLM_API_KEY = "k"; }; };
    argued = { a = { extraArgs = [ "--api-key=k" ]; }; };
    set = { a = { settings.api-key = "k"; }; };
    underscored = { a = { settings.api_key = "k"; }; };
    spelt.a.settings = {
      "--max-model-len" = 8192;
      max_num_seqs = 4;
      "Seed" = 1;
      "--hf_overrides.a_b" = 1;
      "compilation-config.cudagraph_mode" = "NONE";
    };
    listed.a.settings = {
      middleware = [ ];
      lora-modules = [ "a=/srv/a" "b=/srv/b" ];
      allowed-origins = [ [ "*" ] ];
      override-generation-config = { stop = [ [ 1 ] ]; };
    };
    variable = { a = { environment = { "A B" = "1"; A_B = "1"; "1A" = "2"; }; }; };
    relative = { a = { model = "./model"; }; };
    slashed = { a = { model = "owner/model/"; }; };
    headless = { a = { extraArgs = [ "--nnodes" "2" "--headless" ]; }; };
    headed = { a = { settings = { nnodes = 2; headless = true; }; }; };
    stranger = { a = { user = "carol"; }; };
    strangers = { a = { user = "alice"; group = "none"; }; };
    ported = { a = { settings.port = 9000; }; };
    hosted = { a = { environment.HOST = "::"; }; };
    revised = { a = { extraArgs = [ "--revision=v1" ]; }; };
    elsewhere = { a = { model = "o/m"; download = true; settings.download-dir = "/srv"; }; };
    named = { "A b" = { }; };
    fetching = { a-download = { }; };
    users = {
      a = { };
      b = { user = "alice"; autoStart = false; };
      c = { user = "bob"; cacheDir = "/srv"; autoStart = false; };
    };
  };

  # What is not an error, and what the configuration says about the machine.
  machine = { isSpark = true; graphics = true; driver = true; };
  heeded = {
    nothing = { main = { }; };
    key = { main = { host = "0.0.0.0"; apiKeyFile = "/run/key"; }; };
    open = { main = { host = "::"; }; };
    nodes = { main = { extraArgs = [ "--nnodes=2" ]; }; };
    set = { main = { settings.nnodes = 2; }; };
    graphics = { main = { }; };
    driver = { main = { }; };
    bare = { main = { }; };
    elsewhere = { main = { environment.DGX_VLLM_DRIVER = "/opt/driver"; }; };
    laptop = { main = { }; };
  };
  lacking = {
    graphics = machine // { graphics = false; };
    driver = machine // { driver = false; };
    bare = machine // { graphics = false; driver = false; };
    elsewhere = machine // { graphics = false; driver = false; };
    laptop = { isSpark = false; graphics = false; driver = false; };
  };
  machineOf = name: lacking.${name} or machine;

  words = import ./words.nix;
  matches = name: texts: builtins.listToAttrs
    (map (text: { name = text; value = builtins.match words.${name} text != null; }) texts);
in
{
  instances = map plain instances;
  units = map rendered instances;
  alone = [ (rendered unplaced) ];

  needed = map (instance: hub.isNeeded (defaults // instance)) asking;
  unneeded = map (instance: hub.isNeeded (defaults // instance)) content;
  hub = import ./hub-cases.nix { inherit defaults; };

  refused = builtins.mapAttrs (_: assertionsOf "119.7GB") configured;
  inherit configured accounts;

  warned = builtins.mapAttrs
    (name: instances: import ./warnings.nix ({ instances = complete instances; } // machineOf name))
    heeded;
  inherit heeded;
  machines = builtins.mapAttrs (name: _: machineOf name) heeded;

  words = {
    host = matches "host"
      ([ "127.0.0.1" "0.0.0.0" "::" "::1" "fe80::1%eth0" "spark.local" "localhost" ]
        ++ [ "" " " "a b" "--port" "[::1]" "http://spark" "127.0.0.1\n" ]);
    model = matches "model" [ "owner/name" "demo" "/srv/model" "s3://bucket/model" "" "a b" " a" "a\n" "--port" "\t" ];
    revision = matches "revision" [ "main" "v1.0" "refs/pr/1" "" "v 1" "-v" ];
    profile = matches "profile" [ "qwen3.6-35b-a3b-nvfp4" "/etc/own.toml" "" "a b" ];
    account = matches "account" [ "alice" "_vllm" "host$" "" "a b" "1000" "-a" ];
    place = matches "place" [ "/srv/models" "/" "" "srv" "/a b" "/a:b" "/a%b" ];
    size = matches "size" [ "4096" "32k" "25.6k" "1M" "2T" "" "1.5K" "k" "-1" "4096 " ];
    variable = matches "variable" [ "A" "_a1" "1A" "A B" "A-B" "" ];
  };

  # Which package a platform gets, of what a flake for two systems has.
  packages =
    let
      package = import ../host-package.nix {
        x86_64-linux = { default = "x86"; gb10-default = "assembled"; };
        aarch64-linux.default = "arm";
      };
      given = build: host: builtins.tryEval (package
        ({ hostPlatform.system = host; } // (if build == null then { } else { buildPlatform.system = build; })));
    in
    {
      native = map (system: (given system system).value) [ "x86_64-linux" "aarch64-linux" ];
      unsaid = (given null "aarch64-linux").value;
      cross = (given "x86_64-linux" "aarch64-linux").value;
      back = (given "aarch64-linux" "x86_64-linux").value;
      others = map (system: (given system system).success) [ "aarch64-darwin" "riscv64-linux" ];
    };

  conflicts = conflictsOf { a = { memoryBudget = "50GB"; }; b = { memoryBudget = "20GB"; }; c = { }; };
}
