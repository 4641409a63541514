# Whether a host is an address that this machine alone reaches.
host: builtins.elem host [ "localhost" "::1" ] || builtins.match "127[.].*" host != null
