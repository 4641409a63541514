# Wheel's name -> `meta.license`, for the wheels that are not free; what is not here is free software.
let
  unfree = builtins.fromTOML (builtins.readFile ./unfree.toml);
in
builtins.mapAttrs
  (_: wheel: unfree.terms.${wheel.terms} // { free = false; inherit (wheel) redistributable; })
  unfree.wheels
