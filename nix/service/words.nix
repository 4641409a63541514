# What the module's options take as one word, as patterns of builtins.match.
let word = "[^[:space:]-][^[:space:]]*"; in
{
  # An address or a name, without brackets; a scope follows a percent sign.
  host = "[[:alnum:]:][[:alnum:].:_%-]*";
  # A leading dash would be a flag.
  model = word;
  revision = word;
  profile = word;
  account = "[[:alpha:]_][[:alnum:]._-]*[$]?";
  # A path as text: what a Nix path names would be copied into the store, which everybody can read.
  place = "/[^[:space:]:%]*";
  # vLLM's sizes: k, m, g, t are powers of 1000, capitals are powers of 1024 and take no decimals.
  size = "[0-9]+|[0-9]+([.][0-9]+)?[kmgt]|[0-9]+[KMGT]";
  variable = "[[:alpha:]_][[:alnum:]_]*";
}
