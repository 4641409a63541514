#!/bin/sh
# apache-tvm-ffi 0.1.15.post2: an exception that a Python callback raises crosses the boundary by the name of its type.
# Names that it does not know come back as RuntimeError: `except OSError` around the call does not see an OSError.
# KeyboardInterrupt is one of them, so that Ctrl-C in a callback looks like a failure of the library.
#
# Seen: ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, AssertionError, MemoryError come back
# as themselves; OSError, NotImplementedError, StopIteration, KeyboardInterrupt, ZeroDivisionError and a subclass of
# ValueError come back as RuntimeError.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place" \
  apache-tvm-ffi==0.1.15.post2 numpy==2.3.5
PYTHONPATH=$place python3 - <<'PYTHON'
import tvm_ffi


class Subclass(ValueError):
    pass


def crossed(kind):
    def callback():
        raise kind("x")

    try:
        tvm_ffi.convert(callback)()
    except BaseException as error:
        return type(error)


kept = (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, AssertionError, MemoryError)
lost = (OSError, NotImplementedError, StopIteration, KeyboardInterrupt, ZeroDivisionError, Subclass)
for kind in kept:
    assert crossed(kind) is kind, f"{kind.__name__}: {crossed(kind)}; the behaviour has changed"
for kind in lost:
    assert crossed(kind) is RuntimeError, f"{kind.__name__}: {crossed(kind)}; the behaviour has changed"
print("apache-tvm-ffi 0.1.15.post2: RuntimeError for", ", ".join(kind.__name__ for kind in lost))
PYTHON
