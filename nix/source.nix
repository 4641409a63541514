{
  # A directory of ours as a store path of its own, without what running its code leaves behind: what is built from it
  # is built again when it changes, and not when its neighbours do.
  source = path: builtins.path {
    inherit path;
    name = baseNameOf path;
    filter = path: type: builtins.match ".*/(__pycache__|\\.[^/]*_cache)" path == null;
  };
}
