# Which instances cannot run together with one: on one GPU, all that have no budget, on either side.
{ name, instances }:
let budgeted = other: instances.${other}.memoryBudget != null;
in builtins.filter (other: other != name && ! (budgeted name && budgeted other)) (builtins.attrNames instances)
