# As much of nixpkgs' lib as options.nix asks for, for its description alone: a type is what it is called, and has
# `inside` where there are options in it.
let
  literal = kind: text: { _type = kind; inherit text; };
  # Of a type within another's name: in brackets, unless its kind reads well there.
  phrase = kinds: type: if builtins.elem (type.kind or "") kinds then type.description else "(${type.description})";
  noun = description: { inherit description; kind = "noun"; };
  shown = value: if builtins.isString value then "\"${value}\"" else toString value;
  applied = module: if builtins.isFunction module then module { name = "<name>"; config = { }; } else module;
  optionsOf = builtins.foldl' (all: module: all // ((applied module).options or { })) { };
in
rec {
  mkOption = option: option // { _type = "option"; };
  mkDefault = value: value;
  literalExpression = literal "literalExpression";
  literalMD = literal "literalMD";
  mkEnableOption = name: mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = "Whether to enable ${name}.";
  };
  mkPackageOption = _: name: { default, example, pkgsText }: mkOption {
    type = types.package;
    example = literalExpression example;
    defaultText = literalExpression "${pkgsText}.${default}";
    description = "The ${name} package to use.";
  };

  types = rec {
    package = noun "package";
    bool = noun "boolean";
    str = noun "string";
    singleLineStr = noun "string of one line";
    path = noun "path";
    port = noun "integer between 0 and 65535";
    ints = { positive = noun "integer above 0"; unsigned = noun "integer from 0 on"; };
    numbers.between = low: high: noun "number between ${toString low} and ${toString high}";
    strMatching = pattern: noun "string matching ${pattern}";
    enum = values: {
      description = "one of ${builtins.concatStringsSep ", " (map shown values)}";
      kind = "conjunction";
    };
    nullOr = type: type // { description = "null or ${phrase [ "noun" "conjunction" ] type}"; kind = "conjunction"; };
    either = one: other: {
      description = "${phrase [ "noun" "conjunction" ] one} or ${phrase [ "noun" "conjunction" "composite" ] other}";
      kind = "conjunction";
    };
    listOf = type: type // { description = "list of ${phrase [ "noun" "composite" ] type}"; kind = "composite"; };
    attrsOf = type: {
      description = "attribute set of ${phrase [ "noun" "composite" ] type}";
      kind = "composite";
      each = type.description;
    }
      // (if type ? inside then { inside = type.inside; below = ".<name>"; } else { });
    submodule = modules:
      let
        all = if builtins.isList modules then modules else [ modules ];
        open = builtins.filter (module: ! builtins.isFunction module && module ? freeformType) all;
      in
      {
        description =
          if open == [ ] then "submodule"
          else "submodule, open to any attribute that is a ${(builtins.head open).freeformType.each}";
        kind = "noun";
        inside = optionsOf all;
        below = "";
      };
  };
}
