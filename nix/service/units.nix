# A pure function from an instance to what systemd is told: python/dgx_vllm/service/units.py in Nix, held against it by
# the check `service`. `unit` and `service` are sections of a unit file, `environment` its variables.
let
  fixed = builtins.fromTOML (builtins.readFile ../../python/dgx_vllm/service/units.toml);
  own = import ./serve-options.nix;
  online = "network-online.target";

  # Beyond the launcher's own watchdog, which says what was wrong; systemd's is for a launcher that is stuck itself.
  watchdogMargin = 60;

  optional = condition: value: if condition then [ value ] else [ ];
  some = name: entries: if entries == [ ] then { } else { ${name} = entries; };
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];
  server = name: "dgx-vllm-${name}.service";
  # Words of a command line as systemd.service(5) reads them, each in quotes.
  quoted = word: builtins.toJSON (builtins.replaceStrings [ "$" ] [ "$$" ] (literal word));
  words = list: builtins.concatStringsSep " " (map quoted list);
  flag = name: value: if value == null then [ ] else [ name (toString value) ];

  # Paths in a home: alone, after `--flag=` or `name=`, or in JSON; systemd's list has no place for blanks and colons.
  inAWord = word:
    let
      found = builtins.match "([^/=]+=)?(/(home|root|run/user)/[^ \t\n:]+)" word;
      inJson = builtins.filter builtins.isList (builtins.split "\"(/(home|root|run/user)/[^\" \t\n:]+)\"" word);
    in
    if found != null then [ (builtins.elemAt found 1) ] else map builtins.head inJson;
  inAHome = path: builtins.match "/(home|root|run/user)(/.*)?" path != null;
in
instance:
let
  unit = "dgx-vllm-${instance.name}";
  download = "${unit}-download.service";
  cache = if instance.cacheDir == null then "%C/dgx-vllm" else instance.cacheDir;
  state = if instance.stateDir == null then "%S/${unit}" else instance.stateDir;
  given = builtins.filter (path: path != null) [ instance.cacheDir instance.stateDir ];

  identity =
    if instance.user == null
    then { DynamicUser = true; User = "dgx-vllm"; Group = "dgx-vllm"; } # one name for all: they share their models
    else { User = instance.user; } // (if instance.group == null then { } else { Group = instance.group; });

  directories =
    { ProtectHome = "tmpfs"; ExecPaths = [ cache state ]; }
    // (if instance.cacheDir == null then { CacheDirectory = "dgx-vllm"; } else { })
    // (if instance.stateDir == null then { StateDirectory = unit; } else { })
    // some "ReadWritePaths" (builtins.filter (path: ! inAHome path) given)
    // some "BindPaths" (builtins.filter inAHome given);

  shared = fixed.sandbox // identity // directories
    // some "EnvironmentFile" (optional (instance.environmentFile != null) instance.environmentFile);

  variables = {
    HOME = state;
    HF_HOME = "${cache}/huggingface";
    XDG_CACHE_HOME = cache;
    TRITON_HOME = cache;
    FLASHINFER_WORKSPACE_BASE = cache;
  } // (if instance.hfTokenFile == null then { } else { HF_TOKEN_PATH = "%d/hf-token"; });

  token = optional (instance.hfTokenFile != null) "hf-token:${instance.hfTokenFile}";

  serve = builtins.concatStringsSep " " (
    [
      (words (
        [ instance.command "serve" ]
        ++ optional (instance.model != null) instance.model
        ++ flag "--host" instance.host
        ++ flag "--port" instance.port
        ++ flag "--revision" instance.revision
        ++ own.profileWords instance
        ++ flag "--config" instance.settingsFile
        ++ own.otherWords instance
        ++ (if instance.mtp == null then [ ] else
          flag "--speculative-config" ''{"method":"mtp","num_speculative_tokens":${toString instance.mtp}}'')
      ))
    ]
    ++ own.secretWords instance
    ++ [ "--ready-file" "%t/${unit}/ready.json" ]
    ++ optional (instance.extraArgs != [ ]) (words instance.extraArgs)
  );

  served = {
    unit = {
      Description = "vLLM serving ${if instance.model == null then "the demo" else literal instance.model}";
      # Of two that cannot run at once the one that stops is waited for. One of them says so: both would be a circle.
      After = [ online ]
        ++ optional instance.download download
        ++ map server (builtins.filter (other: other < instance.name) instance.conflicts);
      Wants = [ online ];
    }
    // (if instance.download then { Requires = [ download ]; } else { })
    // some "Conflicts" (map server instance.conflicts)
    // fixed.server.unit;

    service = fixed.server.service // shared // {
      ExecStart = serve;
      RuntimeDirectory = unit;
    }
    // (if instance.watchdog == 0 then { } else { WatchdogSec = instance.watchdog + watchdogMargin; })
    // some "LoadCredential" (own.credentials instance ++ token)
    // some "BindReadOnlyPaths" (
      map literal (builtins.filter
        (path: path != null && inAHome path)
        ([ instance.model ] ++ own.profilePaths instance ++ [ instance.settingsFile ] ++ own.otherPaths instance))
      # A word may mean something else than it looks like, or what is still to be made: `-` lets it be missing.
      ++ map (path: "-${literal path}") (builtins.concatMap inAWord instance.extraArgs)
    );

    environment = variables
    # The download has been here: a server that asks the hub again would only wait for the network.
    // (if instance.offline then { HF_HUB_OFFLINE = "1"; } else { })
    // builtins.mapAttrs (_: literal) instance.environment;
  };
in
{ ${server instance.name} = served; } // (if ! instance.download then { } else {
  ${download} = {
    unit = fixed.download.unit // {
      Description = "download of ${literal instance.model}";
      After = [ online ];
      Wants = [ online ];
    };
    service = fixed.download.service // shared // {
      ExecStart = words
        ([ instance.command "download" "--if-missing" ]
          ++ flag "--revision" instance.revision
          ++ instance.reading
          ++ [ instance.model ]);
    } // some "LoadCredential" token;
    environment = variables;
  };
})
