"""Pattern: what XGrammar 0.2 reads in a regular expression as something else than its author meant."""

import re

# Letters and digits that mean something after a backslash there; any other stands for itself: \A is an A.
_ESCAPES = frozenset("dDwWsSfnrtvuc0")
_ATOMS = re.compile(r"\\0\d+|\\x[0-9a-fA-F]{2}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[:=!<][=!]?|.", re.DOTALL)


def misread(pattern: str, in_json: bool = False) -> str | None:
    """What of a pattern would be ignored or taken for something else, None where nothing is.

    XGrammar itself refuses, with `Grammar.from_regex`, much of what it does not know; not so the rest.

    Args:
        pattern: a regular expression.
        in_json: whether it is a JSON string's, in which a line's end is written as an escape.
    """
    starts, ends = [True], [False]  # of each open group: may ^ stand here; has an alternative ended by $
    first = True
    for atom in _ATOMS.findall(pattern):
        if atom == "^":
            if not first:
                return "^ within a pattern"
            continue
        if atom == "|":
            first, ends[-1] = starts[-1], False
            continue
        if atom == ")":
            first = False
            if len(starts) > 1:
                starts.pop()
                ended = ends.pop()
                ends[-1] = ends[-1] or ended
            continue
        if ends[-1] and atom != "$":
            return "$ within a pattern"
        if atom == "$":
            ends[-1] = True
        elif atom[0] == "(":
            if atom in ("(?=", "(?!", "(?<=", "(?<!"):
                return "look-around"
            starts.append(first)
            ends.append(False)
            continue
        elif atom == "." and not in_json:
            return "a dot, which would match a line's end as well"
        elif reason := _escape(atom):
            return reason
        first = False
    return None


def _escape(atom: str) -> str | None:
    if atom[0] not in "\\[":
        return None
    # [[:alpha:]] is a class of letters to POSIX and to guidance, and "one of [:alph, then ]" to XGrammar.
    if posix := re.search(r"\[:\^?\w+:\]", atom[1:]):
        return f"{posix[0]}, a class of POSIX"
    for escape in re.findall(r"\\(0\d+|x[0-9a-fA-F]{2}|.)", atom, re.DOTALL):
        known = escape in _ESCAPES or (escape[0] == "x" and len(escape) == 3)
        if escape[0].isalnum() and not known:
            return f"\\{escape}"
    return None
