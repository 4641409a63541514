# Instances by the hundred, each with what hub.nix decides of it; tests/service/test_hub_cases.py has the Python decide
# the same. Each flag that can name a repository is given each kind of word, in each way that there is to give it.
{ defaults }:
let
  hub = import ./hub.nix;
  model = "o/m";
  underscored = builtins.replaceStrings [ "-" ] [ "_" ];
  each = list: f: builtins.concatMap f list;

  # A text in a file and on a command line.
  ways = flag: value: [
    { settings.${flag} = value; }
    { extraArgs = [ "--${flag}" value ]; }
    { extraArgs = [ "--${flag}=${value}" ]; }
    { extraArgs = [ "--seed" "1" "--${underscored flag}" value "--enforce-eager" ]; }
    { extraArgs = [ "--${underscored flag}=${value}" ]; }
  ];
  # The same for an object, which may come field by field too.
  objectWays = flag: fields:
    let
      json = builtins.toJSON fields;
      names = builtins.attrNames fields;
      single = write: builtins.concatMap (name: write name fields.${name}) names;
    in
    ways flag json ++ [
      { settings.${flag} = fields; }
      { settings = builtins.listToAttrs (map (name: { name = "${flag}.${name}"; value = fields.${name}; }) names); }
      { extraArgs = single (name: value: [ "--${flag}.${name}" value ]); }
      { extraArgs = single (name: value: [ "--${underscored flag}.${name}=${value}" ]); }
    ];

  texts = [ "tokenizer" "hf-config-path" "spec-model" "generation-config" "tokenizer-revision" "code-revision" ];
  words = [ "o/other" model "/srv/x" "./x" "~/x" "x/" "None" "auto" "vllm" "main" "v1" ];
  single = each texts (flag: each words (ways flag));
  # The command line over the file, and the last of two words.
  pairs =
    let names = [ "o/other" model "/srv/x" ]; in
    each texts (flag: each names (below: each names (above: [
      { settings.${flag} = below; extraArgs = [ "--${flag}" above ]; }
      { extraArgs = [ "--${flag}" below "--${flag}=${above}" ]; }
    ])));
  # As vLLM takes them: the beginning of a name, an alias.
  short = [
    { extraArgs = [ "--hf-config-p" "o/other" ]; }
    { extraArgs = [ "--hf_config_p=/srv/x" ]; }
    { extraArgs = [ "--tokenizer-rev" "v1" ]; }
    { extraArgs = [ "--generation-conf=o/other" ]; }
    { extraArgs = [ "--lora-modul" "a=o/lora" ]; }
    { extraArgs = [ "-sc" "{\"model\": \"o/draft\"}" ]; }
    { extraArgs = [ "-sc={\"model\": \"o/draft\"}" ]; }
    { extraArgs = [ "-sc.model" "o/draft" ]; }
    { extraArgs = [ "-sc.model=/srv/draft" ]; }
    { extraArgs = [ "--speculative-config.model=\"o/draft\"" ]; }
    { extraArgs = [ "--speculative-config.model=\"/srv/draft\"" ]; }
  ];

  drafted = [ "o/draft" model "/srv/draft" "draft.Class" ];
  methods = [ { } { method = "mtp"; } { method = "draft_model"; } { method = "custom_class"; } { method = "ngram"; } ]
    ++ [ { method = "eagle3"; revision = "v1"; } ];
  drafts = each methods (method:
    objectWays "speculative-config" ({ num_speculative_tokens = "2"; } // method)
      ++ each drafted (name: objectWays "speculative-config" ({ model = name; } // method)
      ++ map
        (spoken: spoken // { extraArgs = spoken.extraArgs or [ ] ++ [ "--spec-method" (method.method or "mtp") ]; })
        (ways "spec-model" name)));
  # Fields over an object, and an object over another.
  laid = each [ "o/draft" "/srv/draft" ] (below: each [ "o/draft" "/srv/draft" ] (above:
    let
      settings.speculative-config = { model = below; };
      onFile = arguments: { inherit settings; extraArgs = arguments; };
    in
    [
      (onFile [ "--speculative-config.model" above "--speculative-config.method" "eagle" ])
      (onFile [ "--speculative-config.method=eagle" ])
      (onFile [ "--speculative-config" (builtins.toJSON { method = "mtp"; }) ])
      (onFile [ "-sc" (builtins.toJSON { model = above; }) ])
      { extraArgs = [ "-sc" (builtins.toJSON { model = below; }) "--speculative-config.method" "eagle" ]; }
    ]));

  adapter = path: builtins.toJSON { name = "a"; inherit path; };
  adapters = [ "a=o/lora" "a=/srv/lora" "a=${model}" (adapter "o/lora") (adapter "/srv/lora") ];
  loras = each adapters (one: ways "lora-modules" one ++ each adapters (other: [
    { settings.lora-modules = [ one other ]; }
    { extraArgs = [ "--lora-modules" one other ]; }
    { extraArgs = [ "--lora-modules" one "--lora_modules" other ]; }
    { settings.lora-modules = [ one ]; extraArgs = [ "--lora-modules" other ]; }
  ]));
  loaded = each
    [
      { image = "o/lora"; }
      { image = "/srv/lora"; }
      { image = "/srv/a"; audio = "o/b"; }
      { audio = "/srv/a"; image = model; }
    ]
    (objectWays "default-mm-loras");
  sharded = each
    [ { pattern = "part-*"; } { pattern = ""; } { enable_multithread_load = "true"; } ]
    (objectWays "model-loader-extra-config");
  other = [
    { }
    { revision = "main"; }
    { revision = "v1"; }
    { extraArgs = [ "--chat-template" "{{ messages }}" "--hf-overrides={\"a\": 1}" "--seed" "-1" ]; }
    { settings.chat-template = "{% for m in messages %}"; }
  ];

  readings = each [ "safetensors" "mistral" "sharded_state" ] (ways "load-format")
    ++ each [ "hf" "mistral" ] (ways "config-format")
    ++ [ { settings.load-format = "safetensors"; extraArgs = [ "--load-format=auto" "--config_format" "mistral" ]; } ];
  # With what a profile gives below.
  named = each hub.builtIn (profile: [ profile.model profile.name ]);
  profiled = each
    [
      { }
      { extraArgs = [ "--load-format" "auto" ]; }
      { settings.speculative-config = { model = "o/draft"; }; }
      { extraArgs = [ "-sc.model" "o/draft" ]; }
      { extraArgs = [ "-sc.num_speculative_tokens" "1" ]; }
      { mtp = 2; }
      { mtp = 2; extraArgs = [ "-sc.model" "o/draft" ]; }
      { mtp = 2; settings.speculative-config = { model = "o/draft"; }; }
    ]
    (more: each named (name: [ (more // { model = name; }) (more // { profile = name; }) ]));
  unnamed = [
    "gpt2" "DEMO" "/srv/model" "./model" "../model" "~/model" ".hidden" "owner/model/" "s3://bucket/model"
  ];
  models = map (name: { model = name; }) (named ++ unnamed);

  decided = instance:
    let whole = defaults // { inherit model; } // instance; in
    {
      inherit (whole) model revision profile settings extraArgs mtp;
      fetched = hub.isFetched whole.model;
      needed = hub.isNeeded whole;
      reading = hub.reading whole;
    };
in
map decided
  (single ++ pairs ++ short ++ drafts ++ laid ++ loras ++ loaded ++ sharded ++ other ++ readings ++ profiled ++ models)
