# What comes from the hub: python/dgx_vllm/service/hub_access.py and install.py decide the same for `install-service`,
# and the check `service` compares both over the cases of hub-cases.nix. An evaluation cannot look at files: a path is
# told by its spelling, and a profile of the user's own counts as one that asks the hub for more.
let
  profiles = ../../python/dgx_vllm/profiles;
  isProfile = file: builtins.match ".*[.]toml" file != null;
  files = builtins.filter isProfile (builtins.attrNames (builtins.readDir profiles));
  builtIn = map
    (file:
      { name = builtins.head (builtins.match "(.*)[.]toml" file); serve = { }; }
      // builtins.fromTOML (builtins.readFile (profiles + "/${file}")))
    files;
  # The built-in profiles of a name, which may be the profile's or its model's.
  called = name: builtins.filter (profile: builtins.elem name [ profile.name profile.model ]) builtIn;

  isPath = text: builtins.match "[/.~].*|.*/" text != null;
  startsWith = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  asText = value: if builtins.isString value then value else builtins.toJSON value;
  last = list: builtins.elemAt list (builtins.length list - 1);

  table = builtins.fromJSON (builtins.readFile ../../python/dgx_vllm/vllm_flags/flags.json);
  flags = builtins.listToAttrs
    (builtins.concatMap (flag: map (name: { inherit name; value = flag; }) flag.names) table.flags);
  # The flag's full name that vLLM takes a word for: spelt with underscores, by an alias, or by the beginning of one
  # name. Null for what is not a flag.
  resolve = word:
    let
      spelt = if startsWith "--" word then builtins.replaceStrings [ "_" ] [ "-" ] word else word;
      begun = if startsWith "--" word then builtins.filter (startsWith spelt) (builtins.attrNames flags) else [ ];
      flag =
        if flags ? ${spelt} then flags.${spelt}
        else if builtins.length begun == 1 then flags.${builtins.head begun}
        else null;
    in
    if flag == null then null else builtins.head flag.names;

  # A flag as it was given once: { flag, field, words }. `field` is null, or what follows the dot of `--flag.field`.
  occurrence = head: words:
    let parts = builtins.match "([^.]*)([.](.*))?" head; in
    { flag = resolve (builtins.elemAt parts 0); field = builtins.elemAt parts 2; inherit words; };
  ofArguments = builtins.foldl'
    (seen: word:
      let parts = builtins.match "(-[^=0-9][^=]*)(=(.*))?" word; in
      if parts != null then
        let words = if builtins.elemAt parts 1 == null then [ ] else [ (builtins.elemAt parts 2) ]; in
        seen ++ [ (occurrence (builtins.elemAt parts 0) words) ]
      else if seen == [ ] then seen
      else builtins.genList (i: builtins.elemAt seen i) (builtins.length seen - 1)
        ++ [ (last seen // { words = (last seen).words ++ [ word ]; }) ])
    [ ];
  ofFile = settings: map
    (name:
      let value = settings.${name}; in
      occurrence "--${name}" (map asText (if builtins.isList value then value else [ value ])))
    (builtins.attrNames settings);

  # What one place gives a flag: null, { words } or, where fields were given one by one, { fields }.
  given = occurrences: flag:
    let
      own = builtins.filter (each: each.flag == flag) occurrences;
      whole = builtins.filter (each: each.field == null) own;
      fields = builtins.filter (each: each.field != null && each.words != [ ]) own;
      value = text: if builtins.match "\".*\"" text != null then builtins.fromJSON text else text;
      named = each: { name = each.field; value = value (builtins.head each.words); };
    in
    if fields != [ ] then { fields = builtins.listToAttrs (map named fields); }
    else if whole != [ ] then { inherit (last whole) words; }
    else null;
  # Fields given one by one on the command line are laid over the object below them; else the higher place counts alone.
  over = below: above:
    if above == null then below
    else if above ? fields && below != null && object below != null then { fields = object below // above.fields; }
    else above;
  # The fields of a JSON object; null where the value is something else.
  object = value:
    if value ? fields then value.fields
    else if builtins.length value.words == 1 && builtins.match "[[:space:]]*[{].*" (builtins.head value.words) != null
    then builtins.fromJSON (builtins.head value.words)
    else null;
  # Words by which vLLM takes its own default.
  isUnset = flag: value: (flags.${flag}.nullable or false) && builtins.elem (value.words or [ ]) [ [ "" ] [ "None" ] ];

  # What counts of profile, settings and arguments, as a function of a flag.
  ranked = { model, profile, settings, extraArgs, mtp ? null, ... }:
    let
      used = called (builtins.head (builtins.filter (name: name != null) [ profile model "demo" ]));
      fromProfile = if used == [ ] then [ ] else ofFile (builtins.head used).serve;
      fromFile = ofFile settings;
      fromMtp = if mtp == null then [ ] else [ (occurrence "--speculative-config" [ "{\"method\":\"mtp\"}" ]) ];
      fromArguments = fromMtp ++ ofArguments extraArgs;
    in
    flag:
    let
      file = given fromFile flag;
      below = if file != null then file else given fromProfile flag;
      value = over below (given fromArguments flag);
    in
    if value == null || isUnset flag value then null else value;
  wordsOf = value: if value == null then [ ] else value.words or [ ];
  fieldsOf = value: if value == null || object value == null then { } else object value;

  # An adapter is written name=path or as JSON.
  adapter = word:
    let path = builtins.match "[^=]*=(.*)" word; in
    if path != null && builtins.match ".*,.*" word == null then builtins.head path
    else if startsWith "{" word then (builtins.fromJSON word).path
    else word;
  # The drafts' method and the draft model's names, as they were given.
  drafted = get:
    let
      fields = fieldsOf (get "--speculative-config");
      methods = wordsOf (get "--spec-method");
    in
    {
      method = if methods != [ ] then builtins.head methods else fields.method or null;
      models = wordsOf (get "--spec-model") ++ (if fields ? model then [ fields.model ] else [ ]);
      revision = fields.revision or null;
    };
  # A checkpoint of the hub that drafts for `model`, as { model } or { model, revision }, null where there is none:
  # python/dgx_vllm/checkpoints/draft_model.py.
  draftModel = model: { method, models, revision }:
    let
      name = if models == [ ] then null else builtins.head models;
      methodName = if builtins.isString method then method else null;
      isClass = builtins.match "[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)+" name != null;
      isMethod = builtins.elem name [ "ngram" "[ngram]" ];
      withoutModel = [ "ngram" "[ngram]" "ngram_gpu" "suffix" "extract_hidden_states" "custom_class" ];
    in
    if ! builtins.isString name || name == "" || name == model || builtins.elem methodName withoutModel then null
    else if methodName == null && (isMethod || isClass) then null
    else if isPath name || builtins.match ".*://.*" name != null then null
    else { model = name; } // (if builtins.isString revision && revision != "" then { inherit revision; } else { });

  # The names of repositories, and paths among them.
  repositories = model: get:
    let draft = drafted get; in
    builtins.filter (name: builtins.isString name && name != "") (
      wordsOf (get "--tokenizer")
      ++ wordsOf (get "--hf-config-path")
      ++ builtins.filter (name: ! builtins.elem name [ "auto" "vllm" ]) (wordsOf (get "--generation-config"))
      # Not what a download unit fetches, nor the name of a Python class.
      ++ (if draftModel model draft != null || draft.method == "custom_class" then [ ] else draft.models)
      ++ map adapter (builtins.filter (word: ! builtins.elem word [ "" "None" ]) (wordsOf (get "--lora-modules")))
      ++ builtins.attrValues (fieldsOf (get "--default-mm-loras"))
    );
in
{
  inherit builtIn;

  # The model that an instance's settings or variables name, null for none: it is to be downloaded, too.
  named = { settings, environment, ... }:
    if settings.model or null != null then settings.model else environment.MODEL or null;

  # Whether a model is one that `dgx-vllm download` fetches.
  isFetched = model:
    let profile = called model; in
    model != null && builtins.match ".*://.*" model == null
      && (if profile == [ ] then ! isPath model else ! (builtins.head profile) ? checkpoint);

  # The words that tell `dgx-vllm download` how vLLM will read the model, and so which of its files to fetch, and which
  # draft model, where that is not the one of the model's profile.
  reading = { model, profile, ... }@instance:
    let
      get = ranked instance;
      known = if model != null then called model else if profile != null then called profile else [ ];
      served = if known != [ ] then (builtins.head known).model else model;
      wanted = draftModel served (drafted get);
      default = if known == [ ] then null else draftModel served (drafted (given (ofFile (builtins.head known).serve)));
    in
    builtins.concatMap
      (flag: let words = wordsOf (get flag); in if words == [ ] then [ ] else [ flag (builtins.head words) ])
      [ "--load-format" "--config-format" ]
    ++ (if wanted == default then [ ] else [ "--speculative-config" (builtins.toJSON wanted) ]);

  # Whether an instance names what no download unit fetches. The model's own other revision counts too: vLLM was
  # not tried on one without the hub.
  isNeeded = { model, revision, profile, ... }@instance:
    let
      get = ranked instance;
      isOther = flag: ! builtins.elem (wordsOf (get flag)) [ [ ] [ "main" ] ];
    in
    ! builtins.elem revision [ null "main" ]
    || profile != null && called profile == [ ]
    || builtins.any isOther [ "--revision" "--tokenizer-revision" "--code-revision" ]
    || builtins.any (name: name != model && ! isPath name) (repositories model get)
    # Names of a sharded state's files, which the download is not told.
    || (fieldsOf (get "--model-loader-extra-config")).pattern or "" != "";
}
