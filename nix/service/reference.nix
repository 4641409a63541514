# The module's options for a reader: docs/reference/nixos-options.md is `text`, and the check `service` holds it so.
#
#   nix eval --raw --file nix/service/reference.nix text > docs/reference/nixos-options.md
#
# `options`: [ { name; description; type; default; example; } ], as nixpkgs' lib.optionAttrSetToDocList has them, which
# agreement.nix holds against it.
let
  lib = import ./reference-lib.nix;
  json = { description = "JSON value"; kind = "noun"; };

  declared = import ./options.nix { inherit lib json; package = null; cfg = null; };

  repeated = count: text: builtins.concatStringsSep "" (builtins.genList (_: text) count);
  # Expressions as they are written in a configuration.
  expression = depth: value:
    let
      inner = repeated (depth + 1) "  ";
      block = open: close: entries:
        if entries == [ ] then "${open} ${close}"
        else builtins.concatStringsSep "\n"
          ([ open ] ++ map (entry: inner + entry) entries ++ [ "${repeated depth "  "}${close}" ]);
    in
    if builtins.isList value then block "[" "]" (map (expression (depth + 1)) value)
    else if builtins.isAttrs value then block "{" "}"
      (map (name: "${name} = ${expression (depth + 1) value.${name}};") (builtins.attrNames value))
    else if builtins.isString value then builtins.replaceStrings [ "\${" ] [ "\\\${" ] (builtins.toJSON value)
    else builtins.toJSON value;
  literal = value: if value ? _type then value else lib.literalExpression (expression 0 value);

  list = prefix: options: builtins.concatLists (map
    (name:
      let
        option = options.${name};
        own = {
          name = "${prefix}.${name}";
          inherit (option) description;
          type = option.type.description;
        }
        // (if option ? defaultText then { default = option.defaultText; }
        else if option ? default then { default = literal option.default; }
        else { })
        // (if option ? example then { example = literal option.example; } else { });
      in
      [ own ]
        ++ (if option.type ? inside then list "${prefix}.${name}${option.type.below}" option.type.inside else [ ]))
    (builtins.attrNames options));

  options = list "services.dgx-vllm" declared;

  line = text: builtins.concatStringsSep " " (builtins.filter builtins.isString (builtins.split "\n *" text));
  value = given: if given._type == "literalMD" then given.text else "`${line given.text}`";
  section = option: builtins.concatStringsSep "\n" (
    [ "## `${option.name}`" "" option.description "" "- type: ${option.type}" ]
    ++ (if option ? default then [ "- default: ${value option.default}" ] else [ ])
    ++ (if option ? example then [ "- example: `${line option.example.text}`" ] else [ ])
    ++ [ "" "" ]
  );
  # The examples of flags, as the file of --config would hold them.
  flags = builtins.mapAttrs
    (_: option: if option.example ? _type then builtins.fromJSON option.example.text else option.example)
    (import ./flags.nix { inherit lib json; });
in
{
  inherit options flags;
  text = ''
    # Options of the NixOS module

    Every option of `nixosModules.default`. [service.md](../guides/service.md#on-nixos) has a configuration.
    This page is made from `nix/service/options.nix`, `nix/service/flags.nix` and, for the launcher's own options,
    `python/dgx_vllm/launch/settings/options.toml`:

        nix eval --raw --file nix/service/reference.nix text > docs/reference/nixos-options.md

  '' + "\n" + builtins.concatStringsSep "" (map section options);
}
