# What comes from the hub: python/dgx_vllm/service/hub.py and install.py decide the same for `install-service`.
let
  profiles = ../../python/dgx_vllm/profiles;
  known = map (file: { name = builtins.head (builtins.match "(.*)[.]toml" file); } // builtins.fromTOML (builtins.readFile (profiles + "/${file}")))
    (builtins.filter (file: builtins.match ".*[.]toml" file != null) (builtins.attrNames (builtins.readDir profiles)));
  # Those that bring their checkpoint with them.
  whole = builtins.filter (profile: profile ? checkpoint) known;

  isPath = text: builtins.match "[/.~].*|.*/" text != null;
  repositories = [ "tokenizer" "hf-config-path" "spec-model" "lora-modules" "default-mm-loras" ];
  revisions = [ "revision" "tokenizer-revision" "code-revision" ];

  flags = map (name: "--${name}") (repositories ++ revisions);
  # An argument that names a repository or a revision; the draft of a speculative-config is one of its fields.
  names = argument: builtins.elem (builtins.replaceStrings [ "_" ] [ "-" ] (builtins.head (builtins.match "([^=]*).*" argument))) (flags ++ [ "--speculative-config.model" "-sc.model" ])
    || builtins.match ".*\"model\".*" argument != null;
  # With dashes: vLLM takes underscores as well.
  dashed = settings: builtins.listToAttrs (map (name: { name = builtins.replaceStrings [ "_" ] [ "-" ] name; value = settings.${name}; }) (builtins.attrNames settings));
  draft = settings:
    let given = settings.speculative-config or { }; in
    if builtins.isString given then builtins.match ".*\"model\".*" given != null else given ? model;
in
{
  # Whether a model is one that `dgx-vllm download` fetches.
  isFetched = model: model != null && ! isPath model && builtins.match ".*://.*" model == null
    && ! builtins.any (profile: builtins.elem model [ profile.name profile.model ]) whole;

  # Whether an instance names what no download unit fetches. The model's own other revision counts too: vLLM was
  # not tried on one without the hub.
  isNeeded = { model, revision, settings, extraArgs, ... }:
    let given = dashed settings; in
    ! builtins.elem revision [ null "main" ]
    || builtins.any (name: given ? ${name} && given.${name} != model && ! (builtins.isString given.${name} && isPath given.${name})) repositories
    || builtins.any (name: given ? ${name} && given.${name} != "main") revisions
    || draft given
    || builtins.any names extraArgs;
}
