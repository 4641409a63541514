# The launcher's own options that an instance has, from the table that Python reads as well. How units pass them on:
# python/dgx_vllm/service/passed_options.py is the twin.
let
  letters = text: builtins.genList (place: builtins.substring place 1 text) (builtins.stringLength text);
  camel = builtins.replaceStrings
    (map (letter: "-${letter}") (letters "abcdefghijklmnopqrstuvwxyz"))
    (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  snake = builtins.replaceStrings [ "-" ] [ "_" ];

  table = (builtins.fromTOML (builtins.readFile ../../python/dgx_vllm/launch/settings/options.toml)).option;
  options = map (entry: entry // { attribute = camel entry.name; field = entry.field or (snake entry.name); })
    (builtins.filter (entry: builtins.elem "nixos" (entry.also or [ ])) table);

  isProfile = entry: entry.type == "profile";
  isSecret = entry: entry.type == "secret-file";
  isPath = entry: builtins.elem entry.type [ "file" "directory" ];
  profiles = builtins.filter isProfile options;
  others = builtins.filter (entry: ! isProfile entry) options;
  from = entry: if entry.type == "flag" then false else entry.default or null;

  example = entry: if entry.type == "flag" then true else entry.nixos.example;

  words = entries: instance: builtins.concatMap
    (entry:
      let value = instance.${entry.attribute}; in
      if isSecret entry || value == null || value == false then [ ]
      else if value == true then [ "--${entry.name}" ]
      else [ "--${entry.name}" (toString value) ])
    entries;
  secrets = instance: map
    (entry: {
      name = builtins.head (builtins.match "(.*)-file" entry.name);
      path = instance.${entry.attribute};
    })
    (builtins.filter (entry: isSecret entry && instance.${entry.attribute} != null) options);
  attributes = name: value: builtins.listToAttrs (map (entry: { name = name entry; value = value entry; }) options);
  onNixos = attributes (entry: entry.attribute);
in
{
  # Options by name: the type by `types.<type>`, an amount that may be 0 by `types.limit`.
  declared = { mkOption, types }:
    let
      typed = entry: if entry.type == "amount" && entry ? zero then types.limit else (types.${entry.type} entry);
      description = entry: builtins.concatStringsSep " " (
        [ (entry.nixos.description or entry.help) ]
        ++ (if entry ? default_text && from entry == null then [ "Null means ${entry.default_text}." ] else [ ])
        ++ (if entry ? zero then [ "0 means ${entry.zero}." ] else [ ])
      );
    in
    onNixos (entry: mkOption {
      type = (if from entry == null then types.nullOr else (type: type)) (typed entry);
      default = from entry;
      example = example entry;
      description = description entry;
    });

  defaults = onNixos from;
  examples = onNixos example;
  # Those of an instance, by their names on NixOS and by their names in Python.
  of = instance: onNixos (entry: instance.${entry.attribute});
  asPython = instance: attributes (entry: entry.field) (entry: instance.${entry.attribute});

  # Words of the command line: those in front of --config, and those behind it.
  profileWords = words profiles;
  otherWords = words others;
  # Systemd passes these files on: words, and [ "NAME:PATH" ].
  secretWords = instance: builtins.concatMap ({ name, ... }: [ "--${name}-file" "%d/${name}" ]) (secrets instance);
  credentials = instance: map ({ name, path }: "${name}:${path}") (secrets instance);
  # Paths that the server itself reads.
  profilePaths = instance: map (entry: instance.${entry.attribute}) profiles;
  otherPaths = instance: map (entry: instance.${entry.attribute}) (builtins.filter isPath others);
}
