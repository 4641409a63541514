# vLLM's flags as a file for --config: what is written, and what vLLM would not read as it was meant.
let
  # The dots of a flag lead into its JSON, where names have underscores.
  flag = name: builtins.head (builtins.match "([^.]*)(.*)" name);
  field = name: builtins.elemAt (builtins.match "([^.]*)(.*)" name) 1;
  right = name: let bare = builtins.match "-*(.*)" name; in
    builtins.replaceStrings [ "_" ] [ "-" ] (flag (builtins.head bare)) + field name;

  # vLLM writes an item by Python's str(), which makes no JSON of it.
  isWord = item: builtins.isString item || builtins.isInt item || builtins.isFloat item || builtins.isPath item;

  ofName = name:
    if builtins.substring 0 1 name == "-" then [ "write ${right name}, without the dashes in front" ]
    else if builtins.match ".*_.*" (flag name) != null
    then [ "write ${right name}, with dashes: under a name with underscores vLLM ignores false" ]
    else if builtins.match "[a-z0-9][a-z0-9-]*" (flag name) == null then [ "no flag of vLLM has such a name" ]
    else [ ];

  ofValue = value:
    if ! builtins.isList value then [ ]
    else if value == [ ] then [ "vLLM ignores an empty list; leave it out" ]
    else if ! builtins.all isWord value
    then [ "a list holds strings and numbers; give what is JSON as text, by builtins.toJSON" ]
    else [ ];
in
{
  # An option that was not set is null.
  written = settings: removeAttrs settings
    (builtins.filter (name: settings.${name} == null) (builtins.attrNames settings));

  # [ { name; fault; } ]
  faults = settings: builtins.concatLists (map
    (name: map (fault: { inherit name fault; }) (ofName name ++ ofValue settings.${name}))
    (builtins.attrNames settings));
}
