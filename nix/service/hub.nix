# What comes from the hub: python/dgx_vllm/service/hub_access.py and install.py decide the same for `install-service`, except that
# a path is told by its look alone here.
let
  profiles = ../../python/dgx_vllm/profiles;
  known = map (file: { name = builtins.head (builtins.match "(.*)[.]toml" file); } // builtins.fromTOML (builtins.readFile (profiles + "/${file}")))
    (builtins.filter (file: builtins.match ".*[.]toml" file != null) (builtins.attrNames (builtins.readDir profiles)));
  # Those that bring their checkpoint with them.
  whole = builtins.filter (profile: profile ? checkpoint) known;

  isPath = text: builtins.match "[/.~].*|.*/" text != null;
  dashed = builtins.replaceStrings [ "_" ] [ "-" ];

  # [ { flag, value } ], a value for each word, of a command line and of settings. JSON is taken apart.
  argued = words: (builtins.foldl'
    (seen: word:
      let
        parts = builtins.match "(-[^=0-9][^=]*)(=(.*))?" word;
        flag = dashed (builtins.elemAt parts 0);
        value = builtins.elemAt parts 2;
      in
      if parts == null then seen // { found = seen.found ++ given seen.flag word; }
      else { inherit flag; found = seen.found ++ (if value == null then [ ] else given flag value); })
    { flag = ""; found = [ ]; }
    words).found;
  set = settings: builtins.concatMap
    (name: builtins.concatMap (given "--${dashed name}") (if builtins.isList settings.${name} then settings.${name} else [ settings.${name} ]))
    (builtins.attrNames settings);
  # Of other flags a value may begin like JSON and be none, as a chat template does.
  objects = [ "--lora-modules" "--default-mm-loras" "--speculative-config" "-sc" "--model-loader-extra-config" ];
  given = flag: value:
    let fields = if builtins.elem flag objects && builtins.isString value && builtins.match "[[:space:]]*[{].*" value != null then builtins.fromJSON value else value; in
    if builtins.isAttrs fields then builtins.concatMap (name: given "${flag}.${dashed name}" fields.${name}) (builtins.attrNames fields)
    else [ { inherit flag; value = if builtins.isString value then value else builtins.toJSON value; } ];

  repositories = [ "--tokenizer" "--hf-config-path" "--spec-model" "--generation-config" "--lora-modules" "--lora-modules.path" "--speculative-config.model" "-sc.model" ];
  revisions = [ "--revision" "--tokenizer-revision" "--code-revision" ];
  # An adapter may be written name=path.
  named = flag: value:
    let path = builtins.match "[^=]*=(.*)" value; in
    if flag == "--lora-modules" && path != null then builtins.head path else value;
  asks = model: { flag, value }:
    let name = named flag value; in
    (builtins.elem flag repositories || builtins.match "--default-mm-loras[.].*" flag != null)
      && ! builtins.elem name [ model "" ] && ! isPath name && ! (flag == "--generation-config" && builtins.elem name [ "auto" "vllm" ])
    || builtins.elem flag revisions && value != "main"
    || flag == "--model-loader-extra-config.pattern"; # names of a sharded state's files, which the download is not told
in
{
  # Whether a model is one that `dgx-vllm download` fetches.
  isFetched = model: model != null && ! isPath model && builtins.match ".*://.*" model == null
    && ! builtins.any (profile: builtins.elem model [ profile.name profile.model ]) whole;

  # The words that tell `dgx-vllm download` how vLLM will read the model, and so which of its files.
  reading = { settings, extraArgs, ... }: builtins.concatMap
    (flag:
      let values = builtins.filter (each: each.flag == flag) (set settings ++ argued extraArgs); in
      if values == [ ] then [ ] else [ flag (builtins.elemAt values (builtins.length values - 1)).value ])
    [ "--load-format" "--config-format" ];

  # Whether an instance names what no download unit fetches. The model's own other revision counts too: vLLM was
  # not tried on one without the hub.
  isNeeded = { model, revision, settings, extraArgs, ... }:
    ! builtins.elem revision [ null "main" ] || builtins.any (asks model) (set settings ++ argued extraArgs);
}
