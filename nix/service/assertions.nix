# What cannot work, found when the configuration is evaluated: enabled instances -> NixOS assertions. `users` and
# `groups`: the names of the accounts that the configuration declares.
{ instances, memory, users, groups }:
let
  amount = import ./amount.nix;
  words = import ./words.nix;
  settings = import ./settings.nix;
  names = builtins.attrNames instances;
  quoted = list: builtins.concatStringsSep " and " (map (name: "'${name}'") list);
  all = check: builtins.concatLists
    (map (name: check name "services.dgx-vllm.instances.${name}" instances.${name}) names);

  # Instances that cannot run at the same time as this one.
  excluded = name: import ./conflicts.nix { inherit name instances; };

  # Instances on the same port that can run at once.
  simultaneous = name: builtins.filter
    (other: other != name && instances.${other}.port == instances.${name}.port && ! builtins.elem other (excluded name))
    names;
  isLoopback = import ./is-loopback.nix;
  startsWith = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;

  # Instances of other users that keep their models in systemd's cache directory, which is the user's who started last.
  cached = builtins.filter (name: instances.${name}.cacheDir == null) names;
  elsewhere = name: if instances.${name}.user == null then [ ] else
    builtins.filter (other: builtins.elem name cached && instances.${other}.user != instances.${name}.user) cached;

  rivals = name: builtins.filter (other: instances.${other}.autoStart) (excluded name);

  reserve = builtins.foldl' (most: name: let own = instances.${name}.memoryReserve; in
    if own != null && amount.megabytes own > most then amount.megabytes own else most) 8000.0 names;
  budgeted = builtins.filter (name: instances.${name}.memoryBudget != null) names;
  asked = builtins.foldl' (sum: name: sum + amount.megabytes instances.${name}.memoryBudget) 0 budgeted;
  room = amount.megabytes memory - reserve;

  secrets = [ "VLLM_API_KEY" "HF_TOKEN" "HUGGING_FACE_HUB_TOKEN" ];
  # Whether settings or extraArgs give one of the flags, spelt with dashes or, as vLLM takes them too, with underscores.
  spelt = builtins.replaceStrings [ "_" ] [ "-" ];
  argued = names: argument:
    let word = spelt argument; in
    builtins.any (name: word == "--${name}" || startsWith "--${name}=" word) names;
  gives = instance: names: builtins.any (name: builtins.elem (spelt name) names) (builtins.attrNames instance.settings)
    || builtins.any (argued names) instance.extraArgs;

  faults = name: map (each: "${each.name} (${each.fault})") (settings.faults instances.${name}.settings);
  variables = name: builtins.filter
    (variable: builtins.match words.variable variable == null)
    (builtins.attrNames instances.${name}.environment);
  removed = builtins.fromTOML (builtins.readFile ../../python/dgx_vllm/launch/settings/removed.toml);
  gone = name: builtins.filter (variable: removed ? ${variable}) (builtins.attrNames instances.${name}.environment);
  successor = variable:
    if removed.${variable} ? use then "use ${removed.${variable}.use} instead of ${variable}"
    else "leave ${variable} out";
  relative = path: path != null && builtins.match "[.~].*|[^/].*/" path != null;
in
[
  {
    assertion = asked <= room;
    message =
      "services.dgx-vllm: the memory budgets of ${quoted budgeted} add up to ${amount.shown asked}, and "
      + "${memory} less the reserve of ${amount.shown reserve} is ${amount.shown room}; lower one, or leave the "
      + "budgets out so that only one instance runs at a time";
  }
]
++ all (name: option: instance: [
  {
    assertion = elsewhere name == [ ];
    message =
      "${option} would take systemd's cache directory from ${quoted (elsewhere name)}, which has another user; "
      + "give it its own cacheDir";
  }
  {
    assertion = ! instance.autoStart || rivals name == [ ];
    message =
      "${option} starts with the machine, and so does ${quoted (rivals name)}, which cannot run at the same "
      + "time; set autoStart = false for one, or give each a memoryBudget";
  }
  {
    assertion = simultaneous name == [ ];
    message =
      "${option}.port ${toString instance.port} is also that of ${quoted (simultaneous name)}, which may run at "
      + "the same time; give each its own";
  }
  {
    assertion = faults name == [ ];
    message = "${option}.settings: ${builtins.concatStringsSep "; " (faults name)}";
  }
  {
    assertion = variables name == [ ];
    message =
      "${option}.environment: ${quoted (variables name)} cannot be the name of a variable; use letters, digits "
      + "and underscores";
  }
  {
    assertion = gone name == [ ];
    message =
      "${option}.environment: vLLM no longer reads ${quoted (gone name)}; "
      + "${builtins.concatStringsSep "; " (map successor (gone name))}";
  }
  {
    assertion = ! relative instance.model;
    message =
      "${option}.model ${toString instance.model} is not an absolute path, and the service runs in another "
      + "directory; begin it with /";
  }
  {
    # Such a node serves nobody, and a unit is active once it has answered.
    assertion = ! gives instance [ "headless" ];
    message =
      "${option}: a headless node never answers, so systemd would end its unit as one that does not start; leave "
      + "--headless out, and start that node with `dgx-vllm serve`";
  }
  {
    assertion = instance.user == null || builtins.elem instance.user users;
    message =
      "${option}.user ${toString instance.user} is not among users.users, so the unit would not start; declare "
      + "users.users.${toString instance.user}, or leave the option out to use the service's own user";
  }
  {
    assertion = instance.user == null || instance.group == null || builtins.elem instance.group groups;
    message =
      "${option}.group ${toString instance.group} is not among users.groups, so the unit would not start; "
      + "declare users.groups.${toString instance.group}, or leave the option out";
  }
  {
    assertion = instance.user != null || (instance.cacheDir == null && instance.stateDir == null);
    message =
      "${option}.cacheDir and stateDir need a user who owns them: set ${option}.user, or leave them out for "
      + "systemd's own";
  }
  {
    assertion = instance.group == null || instance.user != null;
    message = "${option}.group needs a user; set ${option}.user as well";
  }
  {
    assertion = ! (instance.openFirewall && isLoopback instance.host);
    message =
      "${option}.openFirewall opens a port that listens only on ${instance.host}; set ${option}.host to an "
      + "address of the network";
  }
  {
    assertion = ! instance.download || instance.model != null;
    message = "${option}.download has no model to fetch; set ${option}.model";
  }
  {
    assertion = ! builtins.any
      (file: file != null && startsWith builtins.storeDir file)
      [ instance.apiKeyFile instance.hfTokenFile instance.environmentFile ];
    message =
      "${option}: a secret lies in ${builtins.storeDir}, which everybody can read; give the quoted path of a "
      + "file outside of it";
  }
  {
    assertion = ! builtins.any (secret: instance.environment ? ${secret}) secrets
      && ! gives instance [ "api-key" "hf-token" ];
    message =
      "${option}: a secret in environment, extraArgs or settings ends up in ${builtins.storeDir}, which "
      + "everybody can read; use apiKeyFile and hfTokenFile";
  }
  {
    # The option would overrule the one, and the other would open another port than the firewall.
    assertion = ! gives instance [ "host" "port" "revision" ]
      && ! (instance.environment ? HOST || instance.environment ? PORT);
    message =
      "${option}: host, port and revision are options of their own, which settings, environment and extraArgs do "
      + "not reach; set ${option}.host, port or revision";
  }
  {
    assertion = ! instance.download || ! gives instance [ "download-dir" ];
    message =
      "${option}: the service fetches models into its cache, not into download-dir; set ${option}.cacheDir and "
      + "user, or give the model's own directory as the model";
  }
  {
    assertion = builtins.match "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?" name != null;
    message = "${option}: an instance's name is made of lower-case letters, digits and dashes";
  }
  {
    assertion = builtins.match ".*-download" name == null;
    message = "${option}: units whose names end in -download fetch models; choose another name";
  }
])
