# matrix.nix through the real module system: what comes out must be what units.nix makes and assertions.nix says. So
# must what only the module system can tell: types, what a configuration may change, where options are declared, two
# imports.
#
#   nix-instantiate --eval --strict --json nix/service/agreement.nix --arg lib 'import NIXPKGS/lib'
#
# gives how much was tried, and what differs: nothing, by name. The check `module` holds it so where nixpkgs is the real
# one.
{ lib }:
let
  matrix = import ./matrix.nix;
  hub = import ./hub.nix;
  configured = configuration: import ./evaluate.nix { inherit lib configuration; };
  declared = names: lib.genAttrs names (_: { });
  sound = instances: {
    services.dgx-vllm = { inherit instances; };
    users = { users = declared matrix.accounts.users; groups = declared matrix.accounts.groups; };
    hardware.graphics.enable = true;
    services.xserver.videoDrivers = [ "nvidia" ];
  };
  evaluate = instances: configured (sound instances);
  rendered = service: {
    inherit (service) environment serviceConfig unitConfig after wants requires conflicts;
  };

  # An option for each field but those that the module works out: from `settings`, from the other instances, from the
  # package.
  options = instance: removeAttrs instance [ "name" "command" "settingsFile" "conflicts" "reading" ];

  # An instance without what one configuration of one instance cannot have.
  alone = instance: instance // {
    settingsFile = null;
    conflicts = [ ];
    reading = hub.reading ({ settings = { }; } // instance);
    command = "/nix/store/none/bin/dgx-vllm";
  };
  expected = instance: lib.mapAttrs'
    (file: unit: lib.nameValuePair (lib.removeSuffix ".service" file) {
      inherit (unit) environment;
      serviceConfig = unit.service;
      unitConfig = removeAttrs unit.unit [ "Description" "After" "Wants" "Requires" "Conflicts" ];
      after = unit.unit.After or [ ];
      wants = unit.unit.Wants or [ ];
      requires = unit.unit.Requires or [ ];
      conflicts = unit.unit.Conflicts or [ ];
    })
    (import ./units.nix instance);

  instances = map alone matrix.instances;
  agrees = instance:
    builtins.mapAttrs (_: rendered) (evaluate { ${instance.name} = options instance; }).services == expected instance;
  # The module's package is that of the instances which name none.
  other = { type = "derivation"; name = "other"; outPath = "/nix/store/other"; meta.mainProgram = "dgx-vllm"; };
  packaged = configured { services.dgx-vllm = { package = other; instances.main = { }; }; };

  differing = builtins.filter
    (name: (evaluate matrix.configured.${name}).failed != matrix.refused.${name})
    (builtins.attrNames matrix.refused);

  warned = name:
    let machine = matrix.machines.${name}; in
    (import ./evaluate.nix {
      inherit lib;
      system = if machine.isSpark then "aarch64-linux" else "x86_64-linux";
      configuration = {
        services.dgx-vllm.instances = matrix.heeded.${name};
        services.xserver.videoDrivers = lib.optional machine.driver "nvidia";
        hardware.graphics.enable = machine.graphics;
      };
    }).warnings;

  # A build of the system reads the services and what is in a file's settings.
  evaluates = instance:
    let made = evaluate { main = instance; }; in
    (builtins.tryEval (builtins.deepSeq [ made.services made.instances.main.settings ] true)).success;
  # By number, since a function cannot be shown.
  numbered = accepted: list: builtins.filter
    (number: evaluates (builtins.elemAt list number) == accepted)
    (builtins.genList (number: number) (builtins.length list));
  bad = [
    { host = ""; }
    { host = "a b"; }
    { model = ""; }
    { model = "a b"; }
    { revision = "v 1"; }
    { profile = "a b"; }
    { user = "a b"; }
    { user = ""; }
    { port = 65536; }
    { memoryBudget = "40"; }
    { memoryFloor = "1"; }
    { watchdog = -1; }
    { mtp = 0; }
    { denseDtype = "fp16"; }
    { apiKeyFile = "key"; }
    { extraArgs = [ "a\nb" ]; }
    { settings.seed = x: x; }
    { settings.hf-overrides.a = x: x; }
    { settings.allowed-origins = [ (x: x) ]; }
    { settings.max-model-len = 0; }
    { settings.max-model-len = "long"; }
    { settings.max-model-len = [ 4096 ]; }
    { settings.max-num-seqs = "8"; }
    { settings.gpu-memory-utilization = 80; }
    { settings.enable-prefix-caching = "false"; }
    { settings.trust-remote-code = 1; }
    { settings.lora-modules = [ { name = "a"; path = "/srv/a"; } ]; }
    { settings.served-model-name = [ [ "a" ] ]; }
  ];
  good = [
    { settings.max-model-len = "32k"; }
    { settings.max-model-len = "auto"; }
    { settings.max-model-len = -1; }
    { settings.served-model-name = [ "a" "b" ]; }
    { settings.speculative-config = "{\"method\":\"mtp\",\"num_speculative_tokens\":2}"; }
    { settings.limit-mm-per-prompt.video = { count = 1; num_frames = 32; }; }
    { settings.hf-overrides = { a = [ 1 { b = null; } ]; }; }
    { settings.seed = 1; }
    { host = "fe80::1%eth0"; }
  ];

  # A file is made of what was set alone, and only then.
  started = settings: (evaluate { main.settings = settings; }).services.dgx-vllm-main.serviceConfig.ExecStart;
  written = started { max-model-len = 4096; seed = null; };
  unwritten = started { seed = null; };

  # A model that settings or variables name is downloaded like that of the option, which ranks above both.
  downloaded = instance:
    (evaluate { main = instance; }).services.dgx-vllm-main-download.serviceConfig.ExecStart or null;
  named = {
    settings = downloaded { settings.model = "o/m"; environment.MODEL = "o/other"; } == downloaded { model = "o/m"; };
    variable = downloaded { environment.MODEL = "o/m"; } == downloaded { model = "o/m"; };
    option = downloaded { model = "o/m"; settings.model = "o/other"; } == downloaded { model = "o/m"; };
    path = downloaded { settings.model = "/srv/model"; } == null;
    other = downloaded { model = "o/other"; } != downloaded { model = "o/m"; };
  };

  changed = (configured {
    services.dgx-vllm.instances.main = { };
    systemd.services.dgx-vllm-main = {
      description = "mine";
      unitConfig.StartLimitBurst = 3;
      serviceConfig = {
        TimeoutStartSec = "4h";
        TimeoutStopSec = "2min";
        LimitNOFILE = 1048576;
        OOMScoreAdjust = 0;
        WatchdogSec = 600;
        RestartSec = "1min";
        CapabilityBoundingSet = [ "CAP_SYS_NICE" ];
        DeviceAllow = [ "char-infiniband_verbs rw" ];
      };
    };
  }).services.dgx-vllm-main;
  fixed = (builtins.fromTOML (builtins.readFile ../../python/dgx_vllm/service/units.toml)).server.service;
  changes = {
    description = changed.description == "mine";
    burst = changed.unitConfig.StartLimitBurst == 3;
    start = changed.serviceConfig.TimeoutStartSec == "4h";
    stop = changed.serviceConfig.TimeoutStopSec == "2min";
    files = changed.serviceConfig.LimitNOFILE == 1048576;
    score = changed.serviceConfig.OOMScoreAdjust == 0;
    watchdog = changed.serviceConfig.WatchdogSec == 600;
    restart = changed.serviceConfig.RestartSec == "1min";
    capabilities = changed.serviceConfig.CapabilityBoundingSet == [ "CAP_SYS_NICE" ];
    devices = lib.sort builtins.lessThan changed.serviceConfig.DeviceAllow
      == lib.sort builtins.lessThan (fixed.DeviceAllow ++ [ "char-infiniband_verbs rw" ]);
  };

  # Twice by one path, and once more from another copy of the flake.
  module = packages: import ./module.nix { inherit packages; };
  twice = builtins.tryEval (builtins.deepSeq
    (configured {
      imports = [ (module { }) (module { other = { }; }) ];
      services.dgx-vllm.instances.main = { };
    }).services
    true);

  template = configured {
    imports = [ ../../templates/spark/configuration.nix ];
    freeformType = lib.types.attrsOf lib.types.anything;
  };

  found = builtins.filter (option: option.visible && ! option.internal) (configured { }).declared;
  text = value: if value == null then null else value.text;
  shown = option: {
    inherit (option) name description;
    default = text (option.default or null);
    example = text (option.example or null);
  };
  page = (import ./reference.nix).options;
  misplaced = builtins.filter (option: option.declarations != [ (toString ./module.nix) ]) found;
  undocumented = lib.subtractLists (map shown page) (map shown found)
    ++ lib.subtractLists (map shown found) (map shown page);
in
{
  tried = {
    instances = builtins.length instances;
    refused = builtins.length (builtins.attrNames matrix.refused);
    warned = builtins.length (builtins.attrNames matrix.warned);
    types = builtins.length bad + builtins.length good;
    options = builtins.length found;
  };
  different = {
    instances = builtins.filter (instance: ! agrees instance) instances;
    refused = differing;
    warned = builtins.filter (name: warned name != matrix.warned.${name}) (builtins.attrNames matrix.warned);
    packages =
      let command = packaged.services.dgx-vllm-main.serviceConfig.ExecStart; in
      lib.optional (! lib.hasInfix "\"/nix/store/other/bin/dgx-vllm\"" command) "main";
    accepted = numbered true bad;
    rejected = numbered false good;
    written = lib.optional (! lib.hasInfix "\"--config\" \"/nix/store/none-dgx-vllm-main.yaml\"" written) written
      ++ lib.optional (lib.hasInfix "--config" unwritten) unwritten;
    named = builtins.filter (name: ! named.${name}) (builtins.attrNames named);
    changes = builtins.filter (name: ! changes.${name}) (builtins.attrNames changes);
    twice = lib.optional (! twice.success) "imported twice";
    template = template.failed
      ++ template.warnings
      ++ lib.optional (template.services == { }) "the template has no service";
    misplaced = map (option: option.name) misplaced;
    undocumented = map (option: option.name) undocumented;
  };
}
